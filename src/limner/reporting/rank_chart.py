"""A metric over a LoRA's rank, a line a family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from limner.artifacts import Cell
from limner.metrics import metric_named
from limner.reporting.charts import (
    LARGE,
    Chart,
    anchors_of,
    axis_title,
    colour_class,
    end_names,
    frame,
    level_lines,
    mark,
    named_ticks,
    upright_bar,
)
from limner.reporting.columns import Column
from limner.reporting.estimates import Estimate, bars_sentence, estimate
from limner.reporting.findings import PictureScores, signless
from limner.reporting.svg import Scale, element, padded, path_through

Line = list[tuple[int, Column, Estimate]]  # by rank
PANEL = replace(LARGE, right=400.0)  # with room for names at the right
SIDESTEP_PX = 6.0  # between lines at the same rank, so that their bars do not cover each other


def rank_chart(columns: Sequence[Column], cells: Sequence[Cell], scores: PictureScores) -> Chart | None:
    """None when no family has two ranks with a value among `cells`."""
    name = scores.first_shown("rank")
    estimates = [(column, each) for column in columns if (each := estimate(column, cells, scores, name))]
    lines = _lines(estimates)
    if not lines or name is None:
        return None
    metric = metric_named(name)
    unranked = [(column.name, each.mean) for column, each in estimates if column.rank is None]
    named = unranked + anchors_of(scores, name)
    ranks = sorted({rank for line in lines for rank, *_ in line})
    reach = [value for line in lines for *_, each in line for value in (each.low, each.high)]
    y_axis = PANEL.vertical(*padded([*reach, *(value for _, value in named)]))
    x_axis = PANEL.horizontal(math.log2(ranks[0]) - 0.5, math.log2(ranks[-1]) + 0.5)
    parts = [
        *frame(PANEL, y_axis, "rank, on a logarithmic scale", f"{axis_title(metric)} ↑"),
        *named_ticks(PANEL, [(str(rank), x_axis(math.log2(rank))) for rank in ranks]),
        *level_lines(PANEL, y_axis, [value for _, value in named]),
    ]
    for index, line in enumerate(lines):
        shift_px = SIDESTEP_PX * (index - (len(lines) - 1) / 2)
        parts += _drawn(line, columns, x_axis, y_axis, shift_px, with_figures=len(lines) == 1)
    ends = [(line[-1][1].name, line[-1][2].mean) for line in lines] if len(lines) > 1 else []
    parts += end_names(PANEL, [(name, y_axis(value)) for name, value in [*named, *ends]])
    said = "; ".join(f"rank {rank}: {signless(each.mean)}" for line in lines for rank, _, each in line)
    bars = bars_sentence([each for line in lines for *_, each in line])
    return Chart(
        "rank", f"{metric.words['en'].title} over rank",
        PANEL.drawing(parts, f"Mean {metric.words['en'].noun} over rank. {said}."),
        f"Each marker is the mean of a column. {bars} The dashed levels are variants without a rank. {_scales(lines)}",
    )  # fmt: skip


def _lines(estimates: Sequence[tuple[Column, Estimate]]) -> list[Line]:
    families: dict[tuple[int | None, float], Line] = {}
    for column, each in estimates:
        if column.rank is not None:
            families.setdefault((column.family, column.strength), []).append((column.rank, column, each))
    return [sorted(line, key=lambda point: point[0]) for line in families.values() if len(line) > 1]


def _drawn(
    line: Line, columns: Sequence[Column], x_axis: Scale, y_axis: Scale, shift_px: float, *, with_figures: bool
) -> list[Markup]:
    points = [(x_axis(math.log2(rank)) + shift_px, y_axis(each.mean)) for rank, _, each in line]
    parts = [element("path", d=path_through(points), class_=f"line {colour_class(columns, line[-1][1])}")]
    for (_, column, each), (x, y) in zip(line, points, strict=True):
        colour = colour_class(columns, column)
        parts += [upright_bar(each, colour, x, y_axis), mark(column, colour, x, y)]
        if with_figures:  # the figures of several lines would cover each other
            parts.append(element("text", signless(each.mean), x=x + 10, y=y + 17, class_="value"))
    return parts


def _scales(lines: Sequence[Line]) -> str:
    details = {part.strip() for line in lines for _, c, _ in line for part in c.detail.split(",")[2:3]}
    if len(details) == 1:
        return f"Every rank has the same {details.pop()} (alpha over rank)."
    return "The scale (alpha over rank) differs between ranks, so this is not the effect of rank alone."
