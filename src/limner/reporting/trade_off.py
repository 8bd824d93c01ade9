"""Likeness against prompt fidelity: every picture, every column's mean, and the front that no variant surpasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from limner.artifacts import Cell
from limner.reporting.charts import (
    LARGE,
    Chart,
    anchors_of,
    colour_class,
    frame,
    label,
    level_bar,
    levels,
    mark,
    upright_bar,
    value_ticks,
)
from limner.reporting.columns import Column
from limner.reporting.estimates import Estimate, bars_sentence, estimate
from limner.reporting.findings import LIKENESS, PROMPT_FIDELITY, Scores, signless
from limner.reporting.language import listed
from limner.reporting.svg import Box, Scale, element, padded, place_labels
from limner.statistics import surpassed_by

PANEL = replace(LARGE, height=430.0, bottom=384.0)  # taller than others, so that names find room


@dataclass(frozen=True)
class Point:
    """A column's place in the chart."""

    column: Column
    fidelity: Estimate
    likeness: Estimate


def trade_off_chart(
    columns: Sequence[Column], cells: Sequence[Cell], fit: Sequence[Cell], scores: Scores
) -> Chart | None:
    """Prompt fidelity of `cells` and likeness of `fit`, those whose likeness may be spoken of; None without both."""
    likeness, fidelity = scores.metric(LIKENESS), scores.metric(PROMPT_FIDELITY)
    points = [
        Point(column, x, y)
        for column in columns
        if (x := estimate(column, cells, scores, fidelity)) and (y := estimate(column, fit, scores, likeness))
    ]
    if not points:
        return None
    dots = [(c.variant, scores.value(c, fidelity), scores.value(c, likeness)) for c in fit]
    known = [(variant, x, y) for variant, x, y in dots if x is not None and y is not None]
    anchors = anchors_of(scores, likeness)
    x_axis = PANEL.horizontal(*padded([*(x for _, x, _ in known), *(v for p in points for v in _ends(p.fidelity))]))
    y_values = [*(y for *_, y in known), *(v for p in points for v in _ends(p.likeness)), *(v for _, v in anchors)]
    y_axis = PANEL.vertical(*padded(y_values))
    front = front_of(points)
    colours = {name: colour_class(columns, column) for column in columns for name in column.labels}
    parts = [
        *frame(PANEL, y_axis, "prompt fidelity (cosine) →", "likeness (cosine) ↑"),
        *value_ticks(PANEL, x_axis),
        *levels(PANEL, y_axis, anchors),
        *(_dot(colours[variant], x_axis(x), y_axis(y)) for variant, x, y in known),
        *_front_line(front, x_axis, y_axis),
        *(part for point in points for part in _mean(point, colour_class(columns, point.column), x_axis, y_axis)),
        *_names(points, x_axis, y_axis),
    ]
    return Chart(
        "trade-off", "Likeness against prompt fidelity", PANEL.drawing(parts, _description(points)),
        _caption(points, front),
    )  # fmt: skip


def front_of(points: Sequence[Point]) -> list[Point]:
    """The variants that no other surpasses in both scores, by prompt fidelity; empty where there is but one."""
    taught = {p.column.name: (p.likeness.mean, p.fidelity.mean) for p in points if not p.column.is_base}
    behind = surpassed_by(taught)
    members = [p for p in points if p.column.name in taught and p.column.name not in behind]
    return sorted(members, key=lambda point: point.fidelity.mean) if len(taught) > 1 else []


def _ends(each: Estimate) -> tuple[float, float]:
    return each.low, each.high


def _dot(colour: str, x: float, y: float) -> Markup:
    return element("circle", cx=x, cy=y, r=2.2, class_=f"dot {colour}")


def _mean(point: Point, colour: str, x_axis: Scale, y_axis: Scale) -> list[Markup]:
    x, y = x_axis(point.fidelity.mean), y_axis(point.likeness.mean)
    return [
        level_bar(point.fidelity, colour, y, x_axis),
        upright_bar(point.likeness, colour, x, y_axis),
        mark(point.column, colour, x, y),
    ]


def _front_line(front: Sequence[Point], x_axis: Scale, y_axis: Scale) -> list[Markup]:
    """The edge of all that the front surpasses: steps, since what lies between two of its members is nobody's."""
    if not front:
        return []
    places = [(x_axis(point.fidelity.mean), y_axis(point.likeness.mean)) for point in front]
    steps = f"M{PANEL.left} {places[0][1]:.1f}" + "".join(f"V{y:.1f}H{x:.1f}" for x, y in places)
    return [element("path", d=f"{steps}V{PANEL.bottom}", class_="front-line")]


def _names(points: Sequence[Point], x_axis: Scale, y_axis: Scale) -> list[Markup]:
    places = [(x_axis(point.fidelity.mean), y_axis(point.likeness.mean)) for point in points]
    names = [point.column.name for point in points]
    bars = [
        box for point, place in zip(points, places, strict=True) for box in _bar_boxes(point, place, x_axis, y_axis)
    ]
    return [
        label(name, *place) for name, place in zip(names, place_labels(places, names, PANEL.frame, bars), strict=True)
    ]


def _bar_boxes(point: Point, place: tuple[float, float], x_axis: Scale, y_axis: Scale) -> list[Box]:
    """Where the bars of a mean stand, for names to keep off."""
    x, y = place
    (left, right), (low, high) = map(x_axis, _ends(point.fidelity)), map(y_axis, _ends(point.likeness))
    return [(left, y - 3, right, y + 3), (x - 3, high, x + 3, low)]


def _description(points: Sequence[Point]) -> str:
    said = (
        f"{p.column.name} likeness {signless(p.likeness.mean)}, prompt fidelity {signless(p.fidelity.mean)}"
        for p in points
    )
    return f"Likeness against prompt fidelity. {'; '.join(said)}."


def _caption(points: Sequence[Point], front: Sequence[Point]) -> str:
    said = ["Each faint dot is one picture, each marker the mean of its column."]
    said.append(bars_sentence([each for point in points for each in (point.fidelity, point.likeness)]))
    if front:
        names = listed([point.column.name for point in front])
        said.append(f"The dotted steps are the trade-off front: by their means no variant surpasses {names} in both.")
    return " ".join([*said, "Up is more alike, right is closer to the prompt."])
