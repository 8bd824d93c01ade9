"""The control scorecard: for each reference how far edges and likeness are kept, over conditioning scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limner.artifacts import Cell
from limner.reporting.charts import Chart, Panel, colour_class, end_names, frame, mark, named_ticks, upright_bar
from limner.reporting.columns import Column, number
from limner.reporting.estimates import Estimate, bars_sentence, beside_sentence, estimate
from limner.reporting.findings import EDGES, LIKENESS, Scores, signless
from limner.reporting.plates import Plate
from limner.reporting.svg import Scale, element, padded, path_through

PANEL = Panel(440.0, 280.0, 48.0, 26.0, 348.0, 234.0)
SIDESTEP_PX = 4.0
MEASURES = ((EDGES, "edge agreement", "F1"), (LIKENESS, "likeness", "cosine"))


Means = list[tuple[Estimate | None, Estimate | None]]  # edge agreement and likeness, for each conditioning scale


@dataclass(frozen=True)
class Card:
    """One reference with its standings, and a drawing for each score where there are several scales."""

    name: str
    reference: str | None
    edges: str | None
    scales: list[str]
    rows: list[tuple[Column, Means]]
    charts: list[Chart]


def scorecards(plate: Plate, columns: Sequence[Column], cells: Sequence[Cell], scores: Scores) -> list[Card]:
    """A card for each reference of the plate of conditioned pictures."""
    scales = sorted({cell.conditioning_scale for cell in cells if cell.conditioning_scale is not None})
    return [
        Card(
            group.name, group.reference, group.edges, [f"scale {number(scale)}" for scale in scales],
            _rows(columns, own, scales, scores), _charts(group.name, columns, own, scales, scores),
        )
        for group in plate.groups
        if (own := [cell for cell in cells if cell.reference == group.name])
    ]  # fmt: skip


def side_by_side(cards: Sequence[Card]) -> list[tuple[Column, Means]]:
    """The rows of cards of one conditioning scale as one table, with a pair for each card."""
    columns = list(dict.fromkeys(column for card in cards for column, _ in card.rows))
    by_card = [dict(card.rows) for card in cards]
    return [(column, [pair for rows in by_card for pair in rows.get(column, [(None, None)])]) for column in columns]


def bars_of(cards: Sequence[Card]) -> str:
    """What stands beside the means, or what the bars are."""
    shown = [each for card in cards for _, means in card.rows for pair in means for each in pair if each]
    return bars_sentence(shown) if any(card.charts for card in cards) else beside_sentence(shown)


def _rows(
    columns: Sequence[Column], cells: Sequence[Cell], scales: Sequence[float], scores: Scores
) -> list[tuple[Column, Means]]:
    edges, likeness = scores.metric(EDGES), scores.metric(LIKENESS)
    by_scale = [[cell for cell in cells if cell.conditioning_scale == scale] for scale in scales]
    found = [
        (c, [(estimate(c, own, scores, edges), estimate(c, own, scores, likeness)) for own in by_scale])
        for c in columns
    ]
    return [(column, means) for column, means in found if any(each for pair in means for each in pair)]


def _charts(
    name: str, columns: Sequence[Column], cells: Sequence[Cell], scales: Sequence[float], scores: Scores
) -> list[Chart]:
    if len(scales) < 2:  # a table says as much
        return []
    found = [_chart(name, place, columns, cells, scales, scores) for place in range(len(MEASURES))]
    return [chart for chart in found if chart]


def _chart(
    reference: str, measure: int, columns: Sequence[Column], cells: Sequence[Cell], scales: Sequence[float],
    scores: Scores,
) -> Chart | None:  # fmt: skip
    role, title, unit = MEASURES[measure]
    lines = [
        (column, [(scale, pair[measure]) for scale, pair in zip(scales, means, strict=True)])
        for column, means in _rows(columns, cells, scales, scores)
    ]
    drawn = [(column, [(s, each) for s, each in line if each]) for column, line in lines]
    drawn = [(column, line) for column, line in drawn if line]
    if not drawn:
        return None
    estimates = [each for _, line in drawn for _, each in line]
    y_axis = PANEL.vertical(*padded([value for each in estimates for value in (each.low, each.high)]))
    x_axis = PANEL.horizontal(*padded(scales))
    parts = [
        *frame(PANEL, y_axis, "conditioning scale", f"{title} ({unit}) ↑", ticks=5),
        *named_ticks(PANEL, [(number(scale), x_axis(scale)) for scale in scales]),
    ]
    for place, (column, line) in enumerate(drawn):
        parts += _line(column, line, colour_class(columns, column), x_axis, y_axis, place - (len(drawn) - 1) / 2)
    parts += end_names(PANEL, [(column.name, y_axis(line[-1][1].mean)) for column, line in drawn])
    said = "; ".join(
        f"{column.name} " + ", ".join(f"{number(scale)}: {signless(each.mean)}" for scale, each in line)
        for column, line in drawn
    )
    described = f"{title.capitalize()} over conditioning scale, reference {reference}. {said}."
    return Chart(f"control-{role}", title.capitalize(), PANEL.drawing(parts, described), bars_sentence(estimates))


def _line(
    column: Column, line: Sequence[tuple[float, Estimate]], colour: str, x_axis: Scale, y_axis: Scale, aside: float
) -> list[Markup]:
    points = [(x_axis(scale) + SIDESTEP_PX * aside, y_axis(each.mean)) for scale, each in line]
    parts = [element("path", d=path_through(points), class_=f"line {colour}", stroke_dasharray=column.dashes)]
    for (_, each), (x, y) in zip(line, points, strict=True):
        parts += [upright_bar(each, colour, x, y_axis), mark(column, colour, x, y, 5.0)]
    return parts
