"""The control scorecard: for each reference its metrics (edges kept, likeness kept), over conditioning scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limner.artifacts import Cell
from limner.metrics import Metric, metrics_shown
from limner.reporting.charts import (
    Chart,
    Panel,
    axis_title,
    colour_class,
    end_names,
    frame,
    mark,
    named_ticks,
    upright_bar,
)
from limner.reporting.columns import Column, number
from limner.reporting.estimates import Estimate, bars_sentence, estimate, spread_sentence
from limner.reporting.findings import PictureScores, signless
from limner.reporting.plates import Plate
from limner.reporting.svg import Scale, element, padded, path_through

PANEL = Panel(440.0, 280.0, 48.0, 26.0, 348.0, 234.0)
SIDESTEP_PX = 4.0

Means = list[tuple[Estimate | None, ...]]  # for each conditioning scale one of each metric of the scorecard


def control_metrics() -> list[Metric]:
    """The metrics of the scorecard: those of conditioned pictures alone come first."""
    return sorted(metrics_shown("control"), key=lambda metric: metric.pictures != "references")


@dataclass(frozen=True)
class Card:
    """One reference with its standings, and a drawing for each score where there are several scales."""

    name: str
    reference: str | None
    edges: str | None
    scales: list[str]
    rows: list[tuple[Column, Means]]
    charts: list[Chart]


def scorecards(plate: Plate, columns: Sequence[Column], cells: Sequence[Cell], scores: PictureScores) -> list[Card]:
    """A card for each reference of the plate of conditioned pictures."""
    scales = sorted({cell.conditioning_scale for cell in cells if cell.conditioning_scale is not None})
    return [
        Card(
            group.name, group.reference, group.edges, [f"scale {number(scale)}" for scale in scales],
            _rows(columns, group_cells, scales, scores), _charts(group.name, columns, group_cells, scales, scores),
        )
        for group in plate.groups
        if (group_cells := [cell for cell in cells if cell.reference == group.name])
    ]  # fmt: skip


def side_by_side(cards: Sequence[Card]) -> list[tuple[Column, Means]]:
    """The rows of cards of one conditioning scale as one table, with the means of each card."""
    columns = list(dict.fromkeys(column for card in cards for column, _ in card.rows))
    by_card, none = [dict(card.rows) for card in cards], (None,) * len(control_metrics())
    return [(column, [means for rows in by_card for means in rows.get(column, [none])]) for column in columns]


def bars_of(cards: Sequence[Card]) -> str:
    """What stands beside the means, or what the bars are."""
    shown = [each for card in cards for _, means in card.rows for of_scale in means for each in of_scale if each]
    return bars_sentence(shown) if any(card.charts for card in cards) else spread_sentence(shown)


def _rows(
    columns: Sequence[Column], cells: Sequence[Cell], scales: Sequence[float], scores: PictureScores
) -> list[tuple[Column, Means]]:
    metrics = [scores.first(metric.name) for metric in control_metrics()]
    by_scale = [[cell for cell in cells if cell.conditioning_scale == scale] for scale in scales]
    rows = [
        (column, [tuple(estimate(column, of_scale, scores, metric) for metric in metrics) for of_scale in by_scale])
        for column in columns
    ]
    return [(column, means) for column, means in rows if any(each for of_scale in means for each in of_scale)]


def _charts(
    name: str, columns: Sequence[Column], cells: Sequence[Cell], scales: Sequence[float], scores: PictureScores
) -> list[Chart]:
    if len(scales) < 2:  # a table says as much
        return []
    rows = _rows(columns, cells, scales, scores)
    charts = [_chart(name, metric, index, columns, rows, scales) for index, metric in enumerate(control_metrics())]
    return [chart for chart in charts if chart]


def _chart(
    reference: str, metric: Metric, nth_metric: int, columns: Sequence[Column], rows: Sequence[tuple[Column, Means]],
    scales: Sequence[float],
) -> Chart | None:  # fmt: skip
    title = metric.words["en"].title
    lines = [
        (column, [(scale, of_scale[nth_metric]) for scale, of_scale in zip(scales, means, strict=True)])
        for column, means in rows
    ]
    drawn = [(column, [(s, each) for s, each in line if each]) for column, line in lines]
    drawn = [(column, line) for column, line in drawn if line]
    if not drawn:
        return None
    estimates = [each for _, line in drawn for _, each in line]
    y_axis = PANEL.vertical(*padded([value for each in estimates for value in (each.low, each.high)]))
    x_axis = PANEL.horizontal(*padded(scales))
    parts = [
        *frame(PANEL, y_axis, "conditioning scale", f"{axis_title(metric)} ↑", ticks=5),
        *named_ticks(PANEL, [(number(scale), x_axis(scale)) for scale in scales]),
    ]
    for index, (column, line) in enumerate(drawn):
        parts += _line(column, line, colour_class(columns, column), x_axis, y_axis, index - (len(drawn) - 1) / 2)
    parts += end_names(PANEL, [(column.name, y_axis(line[-1][1].mean)) for column, line in drawn])
    said = "; ".join(
        f"{column.name} " + ", ".join(f"{number(scale)}: {signless(each.mean)}" for scale, each in line)
        for column, line in drawn
    )
    described = f"{title} over conditioning scale, reference {reference}. {said}."
    return Chart(f"control-{metric.name}", title, PANEL.drawing(parts, described), bars_sentence(estimates))


def _line(
    column: Column,
    line: Sequence[tuple[float, Estimate]],
    colour: str,
    x_axis: Scale,
    y_axis: Scale,
    shift_steps: float,
) -> list[Markup]:
    points = [(x_axis(scale) + SIDESTEP_PX * shift_steps, y_axis(each.mean)) for scale, each in line]
    parts = [element("path", d=path_through(points), class_=f"line {colour}", stroke_dasharray=column.dashes)]
    for (_, each), (x, y) in zip(line, points, strict=True):
        parts += [upright_bar(each, colour, x, y_axis), mark(column, colour, x, y, 5.0)]
    return parts
