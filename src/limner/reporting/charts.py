"""The charts of scores, as inline SVG: likeness against prompt fidelity, likeness over rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limner.artifacts import Cell
from limner.reporting.columns import Column
from limner.reporting.findings import LIKENESS, PROMPT_FIDELITY, Finding, Scores, Spread, signless
from limner.reporting.svg import (
    LETTER_WIDTH,
    Box,
    Scale,
    element,
    marker_path,
    padded,
    path_through,
    place_labels,
    round_ticks,
)

WIDTH, HEIGHT = 520.0, 380.0
LEFT, TOP, RIGHT, BOTTOM = 54.0, 26.0, 504.0, 334.0
NOTE_HEIGHT = 13.0


@dataclass(frozen=True)
class Chart:
    """A drawing with the words that stand beneath it."""

    title: str
    svg: Markup
    caption: str


def colour_class(columns: Sequence[Column], column: Column) -> str:
    """CSS class that carries a column's colour."""
    return f"k{columns.index(column)}"


def swatch(column: Column, colour: str) -> Markup:
    """A column's marker, small, for headings and tables."""
    mark = element("path", d=marker_path(column.marker, 7.0, 7.0, 4.6), class_=_mark_class(column))
    return element("svg", mark, class_=f"swatch {colour}", viewBox="0 0 14 14", aria_hidden="true")


def scatter(
    columns: Sequence[Column], findings: Sequence[Finding], cells: Sequence[Cell], scores: Scores
) -> Chart | None:
    """Likeness against prompt fidelity: faint each picture, bold each column's mean; None without both scores."""
    likeness, fidelity = scores.metric(LIKENESS), scores.metric(PROMPT_FIDELITY)
    means = [
        (f.column, f.values[fidelity], f.values[likeness])
        for f in findings
        if likeness and fidelity and f.values[likeness] and f.values[fidelity]
    ]
    if not means or likeness is None or fidelity is None:
        return None
    dots = _dots(columns, cells, scores, fidelity, likeness)
    anchors = _anchors(scores, likeness)
    reach_x = [value for _, x, _ in means if x for value in _reach(x)]
    reach_y = [value for *_, y in means if y for value in _reach(y)]
    x_axis = Scale(*padded([*reach_x, *(x for _, x, _ in dots)]), LEFT, RIGHT)
    y_axis = Scale(*padded([*reach_y, *(y for _, _, y in dots), *(v for _, v in anchors)]), BOTTOM, TOP)
    points = [(x_axis(x.mean), y_axis(y.mean)) for _, x, y in means if x and y]
    obstacles = [box for _, x, y in means if x and y for box in _bar_boxes(x_axis, y_axis, x, y)]
    frame = (LEFT, TOP, RIGHT, BOTTOM)
    labels = place_labels(points, [column.name for column, _, _ in means], frame, obstacles)
    parts = [
        *_frame(x_axis, y_axis, "prompt fidelity →", "likeness ↑"),
        *_levels(y_axis, anchors),
        *(_dot(c, x_axis(x), y_axis(y)) for c, x, y in dots),
        *(
            part
            for column, x, y in means
            if x and y
            for part in _mean(column, colour_class(columns, column), x_axis, y_axis, x, y)
        ),
        *(_label(c.name, *place) for (c, _, _), place in zip(means, labels, strict=True)),
    ]
    said = "; ".join(
        f"{c.name} likeness {signless(y.mean)}, prompt fidelity {signless(x.mean)}" for c, x, y in means if x and y
    )
    return Chart(
        "Likeness against prompt fidelity",
        _drawing(parts, f"Likeness against prompt fidelity. {said}."),
        "Each faint dot is one picture, each marker the mean of its column; the bars span one standard deviation "
        "of the pictures to either side. Up is more alike, right is closer to the prompt.",
    )


def rank_chart(columns: Sequence[Column], findings: Sequence[Finding], scores: Scores) -> Chart | None:
    """Likeness over rank, a line a family; None when no family has two ranks with a likeness."""
    likeness = scores.metric(LIKENESS)
    families: dict[tuple[int | None, float], list[tuple[int, Column, Spread]]] = {}
    for finding in findings:
        value = finding.values.get(likeness or "")
        if finding.column.rank is not None and value:
            family = families.setdefault((finding.column.family, finding.column.strength), [])
            family.append((finding.column.rank, finding.column, value))
    lines = [sorted(family, key=lambda point: point[0]) for family in families.values() if len(family) > 1]
    if not lines:
        return None
    levels = [
        (f.column.name, value.mean)
        for f in findings
        if f.column.rank is None and (value := f.values.get(likeness or ""))
    ] + _anchors(scores, likeness)
    ranks = sorted({rank for line in lines for rank, _, _ in line})
    reach = [value for line in lines for *_, spread in line for value in _reach(spread)]
    y_axis = Scale(*padded([*reach, *(value for _, value in levels)]), BOTTOM, TOP)
    x_axis = Scale(math.log2(ranks[0]) - 0.5, math.log2(ranks[-1]) + 0.5, LEFT, RIGHT)
    parts = [*_frame(None, y_axis, "rank, on a logarithmic scale", "likeness ↑"), *_rank_ticks(ranks, x_axis)]
    parts += _levels(y_axis, levels)
    for line in lines:
        parts += _rank_line(line, columns, x_axis, y_axis, named=len(lines) > 1)
    said = "; ".join(f"rank {rank}: {signless(value.mean)}" for line in lines for rank, _, value in line)
    return Chart(
        "Likeness over rank",
        _drawing(parts, f"Mean likeness over rank. {said}."),
        "Means over all pictures of a column, the bars one standard deviation to either side; the dashed levels "
        "are what has no rank. " + _strengths(lines),
    )


def _reach(spread: Spread) -> tuple[float, float]:
    """Where the bars of a mean end."""
    return spread.mean - (spread.deviation or 0.0), spread.mean + (spread.deviation or 0.0)


def _strengths(lines: Sequence[Sequence[tuple[int, Column, Spread]]]) -> str:
    details = {part.strip() for line in lines for _, c, _ in line for part in c.detail.split(",")[2:3]}
    if len(details) == 1:
        return f"Every rank has the same {details.pop()} (alpha over rank)."
    return "The scale (alpha over rank) differs between ranks, so this is not the effect of rank alone."


def _dots(
    columns: Sequence[Column], cells: Sequence[Cell], scores: Scores, x_metric: str, y_metric: str
) -> list[tuple[str, float, float]]:
    by_label = {label: colour_class(columns, column) for column in columns for label in column.labels}
    pairs = [(by_label[cell.variant], scores.value(cell, x_metric), scores.value(cell, y_metric)) for cell in cells]
    return [(colour, x, y) for colour, x, y in pairs if x is not None and y is not None]


def _anchors(scores: Scores, metric: str | None) -> list[tuple[str, float]]:
    found = [(name, scores.anchor(metric, name)) for name in ("ceiling", "floor")]
    return [(name, value) for name, value in found if value is not None]


def _drawing(parts: Sequence[Markup], description: str) -> Markup:
    size = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return element("svg", *parts, class_="chart", viewBox=size, role="img", aria_label=description)


def _frame(x_axis: Scale | None, y_axis: Scale, x_title: str, y_title: str) -> list[Markup]:
    parts = [element("path", d=f"M{LEFT} {BOTTOM}H{RIGHT}", class_="axis")]
    for tick in round_ticks(y_axis.low, y_axis.high, 6):
        y = y_axis(tick)
        parts.append(element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="grid"))
        parts.append(element("text", f"{tick:g}".replace("-", "−"), x=LEFT - 8, y=y + 4, text_anchor="end"))
    for tick in round_ticks(x_axis.low, x_axis.high) if x_axis else []:
        x = x_axis(tick) if x_axis else 0.0
        parts.append(element("path", d=f"M{x:.1f} {BOTTOM}v4", class_="axis"))
        parts.append(element("text", f"{tick:g}".replace("-", "−"), x=x, y=BOTTOM + 18, text_anchor="middle"))
    parts.append(element("text", x_title, x=RIGHT, y=BOTTOM + 38, text_anchor="end", class_="axis-title"))
    parts.append(element("text", y_title, x=2.0, y=14.0, class_="axis-title"))
    return parts


def _rank_ticks(ranks: Sequence[int], x_axis: Scale) -> list[Markup]:
    return [
        element("text", str(rank), x=x_axis(math.log2(rank)), y=BOTTOM + 18, text_anchor="middle") for rank in ranks
    ]


def _levels(y_axis: Scale, levels: Sequence[tuple[str, float]]) -> list[Markup]:
    """Dashed levels, named above their line, or beneath it, further left, where another name is near."""
    parts, above = [], -math.inf
    for name, value in sorted(levels, key=lambda level: level[1], reverse=True):
        y = y_axis(value)
        near = y - above < 2 * NOTE_HEIGHT
        x, text_y = (RIGHT - 96, y + NOTE_HEIGHT - 1) if near else (RIGHT, y - 5)
        line = element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="level")
        parts.append(element("g", line, element("text", name, x=x, y=text_y, text_anchor="end", class_="note")))
        above = -math.inf if near else y
    return parts


def _dot(colour: str, x: float, y: float) -> Markup:
    return element("circle", cx=x, cy=y, r=2.4, class_=f"dot {colour}")


def _mean(column: Column, colour: str, x_axis: Scale, y_axis: Scale, x: Spread, y: Spread) -> list[Markup]:
    place_x, place_y = x_axis(x.mean), y_axis(y.mean)
    (left, right), (low, high) = map(x_axis, _reach(x)), map(y_axis, _reach(y))
    bars = f"M{left:.1f} {place_y:.1f}H{right:.1f}M{place_x:.1f} {low:.1f}V{high:.1f}"
    shape = marker_path(column.marker, place_x, place_y, 6.5)
    return [
        element("path", d=bars, class_=f"bars {colour}"),
        element("path", d=shape, class_=f"{_mark_class(column)} {colour}"),
    ]


def _bar_boxes(x_axis: Scale, y_axis: Scale, x: Spread, y: Spread) -> list[Box]:
    """Where the bars of a mean stand, for labels to keep off."""
    place_x, place_y = x_axis(x.mean), y_axis(y.mean)
    (left, right), (low, high) = map(x_axis, _reach(x)), map(y_axis, _reach(y))
    return [(left, place_y - 3, right, place_y + 3), (place_x - 3, high, place_x + 3, low)]


def _rank_line(
    line: Sequence[tuple[int, Column, Spread]], columns: Sequence[Column], x_axis: Scale, y_axis: Scale, *, named: bool
) -> list[Markup]:
    points = [(x_axis(math.log2(rank)), y_axis(value.mean)) for rank, _, value in line]
    parts = [element("path", d=path_through(points), class_=f"line {colour_class(columns, line[-1][1])}")]
    for (_, column, value), (x, y) in zip(line, points, strict=True):
        colour, (low, high) = colour_class(columns, column), map(y_axis, _reach(value))
        bars = f"M{x:.1f} {low:.1f}V{high:.1f}"
        shape = marker_path(column.marker, x, y, 6.5)
        parts.append(element("path", d=bars, class_=f"bars {colour}"))
        parts.append(element("path", d=shape, class_=f"{_mark_class(column)} {colour}"))
        parts.append(element("text", signless(value.mean), x=x + 10, y=y + 17, class_="value"))
    if named:
        name, (x, y) = line[-1][1].name, points[-1]
        parts.append(_label(name, min(x, RIGHT - LETTER_WIDTH * len(name) / 2), y - 14, "middle"))
    return parts


def _label(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_="label")


def _mark_class(column: Column) -> str:
    return "mark hollow" if column.is_base or column.strength != 1.0 else "mark"
