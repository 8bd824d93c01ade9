"""One metric against another: every picture, every column's mean, and the front that no variant surpasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from limner.artifacts import Cell
from limner.metrics import Metric, metric_named
from limner.reporting.charts import (
    LARGE,
    Chart,
    anchors_of,
    axis_title,
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
from limner.reporting.findings import PictureScores, signless
from limner.reporting.language import listed
from limner.reporting.svg import Box, Scale, element, padded, place_labels
from limner.statistics import surpassed_by

PANEL = replace(LARGE, height=430.0, bottom=384.0)  # taller than others, so that names find room


@dataclass(frozen=True)
class Titles:
    """The metrics of the two axes."""

    y: Metric
    x: Metric

    @property
    def both(self) -> str:
        """The chart's title."""
        return f"{self.y.words['en'].title} against {self.x.words['en'].noun}"


@dataclass(frozen=True)
class Point:
    """A column's place in the chart."""

    column: Column
    x: Estimate
    y: Estimate


def trade_off_chart(
    columns: Sequence[Column], cells: Sequence[Cell], fit: Sequence[Cell], scores: PictureScores
) -> Chart | None:
    """The trade-off's metrics, x of `cells` and y of `fit`, those that y's model can judge; None without both."""
    y_name, x_name = scores.first_shown("trade-off y"), scores.first_shown("trade-off x")
    points = [
        Point(column, x, y)
        for column in columns
        if (x := estimate(column, cells, scores, x_name)) and (y := estimate(column, fit, scores, y_name))
    ]
    if not points or y_name is None or x_name is None:
        return None
    titles = Titles(metric_named(y_name), metric_named(x_name))
    dots = [(c.variant, scores.value(c, x_name), scores.value(c, y_name)) for c in fit]
    known = [(variant, x, y) for variant, x, y in dots if x is not None and y is not None]
    anchors = anchors_of(scores, y_name)
    x_axis = PANEL.horizontal(*padded([*(x for _, x, _ in known), *(v for p in points for v in _ends(p.x))]))
    y_values = [*(y for *_, y in known), *(v for p in points for v in _ends(p.y)), *(v for _, v in anchors)]
    y_axis = PANEL.vertical(*padded(y_values))
    front = front_of(points)
    colours = {name: colour_class(columns, column) for column in columns for name in column.labels}
    parts = [
        *frame(PANEL, y_axis, f"{axis_title(titles.x)} →", f"{axis_title(titles.y)} ↑"),
        *value_ticks(PANEL, x_axis),
        *levels(PANEL, y_axis, anchors),
        *(_dot(colours[variant], x_axis(x), y_axis(y)) for variant, x, y in known),
        *_front_line(front, x_axis, y_axis),
        *(part for point in points for part in _mean(point, colour_class(columns, point.column), x_axis, y_axis)),
        *_names(points, x_axis, y_axis),
    ]
    return Chart(
        "trade-off", titles.both, PANEL.drawing(parts, _description(points, titles)), _caption(points, front, titles),
    )  # fmt: skip


def front_of(points: Sequence[Point]) -> list[Point]:
    """The variants that no other surpasses in both scores, by x; empty where there is but one."""
    taught = {p.column.name: (p.y.mean, p.x.mean) for p in points if not p.column.is_base}
    behind = surpassed_by(taught)
    members = [p for p in points if p.column.name in taught and p.column.name not in behind]
    return sorted(members, key=lambda point: point.x.mean) if len(taught) > 1 else []


def _ends(each: Estimate) -> tuple[float, float]:
    return each.low, each.high


def _dot(colour: str, x: float, y: float) -> Markup:
    return element("circle", cx=x, cy=y, r=2.2, class_=f"dot {colour}")


def _mean(point: Point, colour: str, x_axis: Scale, y_axis: Scale) -> list[Markup]:
    x, y = x_axis(point.x.mean), y_axis(point.y.mean)
    return [
        level_bar(point.x, colour, y, x_axis),
        upright_bar(point.y, colour, x, y_axis),
        mark(point.column, colour, x, y),
    ]


def _front_line(front: Sequence[Point], x_axis: Scale, y_axis: Scale) -> list[Markup]:
    """The edge of all that the front surpasses: steps, since what lies between two of its members is nobody's."""
    if not front:
        return []
    positions = [(x_axis(point.x.mean), y_axis(point.y.mean)) for point in front]
    steps = f"M{PANEL.left} {positions[0][1]:.1f}" + "".join(f"V{y:.1f}H{x:.1f}" for x, y in positions)
    return [element("path", d=f"{steps}V{PANEL.bottom}", class_="front-line")]


def _names(points: Sequence[Point], x_axis: Scale, y_axis: Scale) -> list[Markup]:
    positions = [(x_axis(point.x.mean), y_axis(point.y.mean)) for point in points]
    names = [point.column.name for point in points]
    bars = [
        box
        for point, position in zip(points, positions, strict=True)
        for box in _bar_boxes(point, position, x_axis, y_axis)
    ]
    return [
        label(name, *position)
        for name, position in zip(names, place_labels(positions, names, PANEL.frame, bars), strict=True)
    ]


def _bar_boxes(point: Point, position: tuple[float, float], x_axis: Scale, y_axis: Scale) -> list[Box]:
    """Where the bars of a mean stand, for names to keep off."""
    x, y = position
    (left, right), (low, high) = map(x_axis, _ends(point.x)), map(y_axis, _ends(point.y))
    return [(left, y - 3, right, y + 3), (x - 3, high, x + 3, low)]


def _description(points: Sequence[Point], titles: Titles) -> str:
    y, x = (metric.words["en"].noun for metric in (titles.y, titles.x))
    said = (f"{p.column.name} {y} {signless(p.y.mean)}, {x} {signless(p.x.mean)}" for p in points)
    return f"{titles.both}. {'; '.join(said)}."


def _caption(points: Sequence[Point], front: Sequence[Point], titles: Titles) -> str:
    said = ["Each faint dot is one picture, each marker the mean of its column."]
    said.append(bars_sentence([each for point in points for each in (point.x, point.y)]))
    if front:
        names = listed([point.column.name for point in front])
        said.append(f"The dotted steps are the trade-off front: by their means no variant surpasses {names} in both.")
    up, right = titles.y.words["en"].more, titles.x.words["en"].more
    return " ".join([*said, f"Up is {up}, right is {right}."])
