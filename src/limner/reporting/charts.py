"""What the charts of scores share: their frame, their levels, and the mark of a column. Inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limner.metrics import Metric
from limner.reporting.columns import Column
from limner.reporting.estimates import Estimate
from limner.reporting.findings import PictureScores
from limner.reporting.svg import Box, Scale, element, marker_path, round_ticks

NOTE_HEIGHT = 13.0
NAME_HEIGHT = 15.0
MARK_RADIUS = 6.5


@dataclass(frozen=True)
class Chart:
    """A drawing with the words that stand beneath it; `name` is that of its file beside the page."""

    name: str
    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Panel:
    """The size of a drawing and where its axes stand in it."""

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def frame(self) -> Box:
        """Left, top, right, bottom of what lies between the axes."""
        return self.left, self.top, self.right, self.bottom

    def horizontal(self, low: float, high: float) -> Scale:
        """An axis from left to right."""
        return Scale(low, high, self.left, self.right)

    def vertical(self, low: float, high: float) -> Scale:
        """An axis from bottom to top."""
        return Scale(low, high, self.bottom, self.top)

    def drawing(self, parts: Sequence[Markup], description: str, kind: str = "chart") -> Markup:
        """The whole drawing with the words that stand for it."""
        size = f"0 0 {self.width:g} {self.height:g}"
        return element("svg", *parts, class_=kind, viewBox=size, role="img", aria_label=description)


LARGE = Panel(520.0, 380.0, 54.0, 26.0, 504.0, 334.0)


def colour_class(columns: Sequence[Column], column: Column) -> str:
    """CSS class that carries a column's colour."""
    return f"k{columns.index(column)}"


def swatch(column: Column, colour: str) -> Markup:
    """A column's marker, small, for headings and tables."""
    mark = element("path", d=marker_path(column.marker, 7.0, 7.0, 4.6), class_=mark_class(column))
    return element("svg", mark, class_=f"swatch {colour}", viewBox="0 0 14 14", aria_hidden="true")


def anchors_of(scores: PictureScores, metric: str | None) -> list[tuple[str, float]]:
    """Ceiling and floor of a metric, those that there are."""
    anchors = [(name, scores.anchor(metric, name)) for name in ("ceiling", "floor")]
    return [(name, value) for name, value in anchors if value is not None]


def axis_title(metric: Metric) -> str:
    """What an axis of a metric's values is called."""
    noun = metric.words["en"].noun
    return f"{noun} ({metric.unit})" if metric.unit else noun


def frame(panel: Panel, y_axis: Scale, x_title: str, y_title: str, ticks: int = 6) -> list[Markup]:
    """Both axes with their titles, and lines across at round values."""
    parts = [element("path", d=f"M{panel.left} {panel.bottom}H{panel.right}", class_="axis")]
    for tick in round_ticks(y_axis.low, y_axis.high, ticks):
        y = y_axis(tick)
        parts.append(element("path", d=f"M{panel.left} {y:.1f}H{panel.right}", class_="grid"))
        parts.append(element("text", f"{tick:g}".replace("-", "−"), x=panel.left - 8, y=y + 4, text_anchor="end"))
    parts.append(element("text", x_title, x=panel.right, y=panel.bottom + 38, text_anchor="end", class_="axis-title"))
    parts.append(element("text", y_title, x=2.0, y=14.0, class_="axis-title"))
    return parts


def value_ticks(panel: Panel, x_axis: Scale) -> list[Markup]:
    """Round values along the lower axis."""
    parts = []
    for tick in round_ticks(x_axis.low, x_axis.high):
        parts.append(element("path", d=f"M{x_axis(tick):.1f} {panel.bottom}v4", class_="axis"))
        parts.append(_tick(panel, f"{tick:g}".replace("-", "−"), x_axis(tick)))
    return parts


def named_ticks(panel: Panel, ticks: Sequence[tuple[str, float]]) -> list[Markup]:
    """Names at positions along the lower axis."""
    return [_tick(panel, name, x) for name, x in ticks]


def _tick(panel: Panel, name: str, x: float) -> Markup:
    return element("text", name, x=x, y=panel.bottom + 18, text_anchor="middle")


def levels(panel: Panel, y_axis: Scale, named: Sequence[tuple[str, float]]) -> list[Markup]:
    """Dashed levels, named above their line, or beneath it, further left, where another name is near."""
    parts, above = [], -math.inf
    for name, value in sorted(named, key=lambda level: level[1], reverse=True):
        y = y_axis(value)
        near = y - above < 2 * NOTE_HEIGHT
        x, text_y = (panel.right - 96, y + NOTE_HEIGHT - 1) if near else (panel.right, y - 5)
        line = element("path", d=f"M{panel.left} {y:.1f}H{panel.right}", class_="level")
        parts.append(element("g", line, element("text", name, x=x, y=text_y, text_anchor="end", class_="note")))
        above = -math.inf if near else y
    return parts


def level_lines(panel: Panel, y_axis: Scale, values: Sequence[float]) -> list[Markup]:
    """Dashed levels without their names."""
    return [element("path", d=f"M{panel.left} {y_axis(value):.1f}H{panel.right}", class_="level") for value in values]


def mark(column: Column, colour: str, x: float, y: float, radius: float = MARK_RADIUS) -> Markup:
    """A column's marker at a position."""
    return element("path", d=marker_path(column.marker, x, y, radius), class_=f"{mark_class(column)} {colour}")


def upright_bar(estimate: Estimate, colour: str, x: float, y_axis: Scale) -> Markup:
    """An estimate's bar along the vertical axis; with caps where it is an interval."""
    low, high = y_axis(estimate.low), y_axis(estimate.high)
    caps = f"M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8" if estimate.kind == "interval" else ""
    return element("path", d=f"M{x:.1f} {low:.1f}V{high:.1f}{caps}", class_=f"bars {colour}")


def level_bar(estimate: Estimate, colour: str, y: float, x_axis: Scale) -> Markup:
    """An estimate's bar along the horizontal axis."""
    low, high = x_axis(estimate.low), x_axis(estimate.high)
    caps = f"M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8" if estimate.kind == "interval" else ""
    return element("path", d=f"M{low:.1f} {y:.1f}H{high:.1f}{caps}", class_=f"bars {colour}")


def label(text: str, x: float, y: float, anchor: str) -> Markup:
    """A name beside a mark."""
    return element("text", text, x=x, y=y, text_anchor=anchor, class_="label")


def end_names(panel: Panel, ends: Sequence[tuple[str, float]]) -> list[Markup]:
    """Names to the right of the panel, each led to the height at which its line ends, apart from each other."""
    ranked = sorted(ends, key=lambda end: end[1])
    heights = spread_out([y for _, y in ranked], NAME_HEIGHT, panel.top, panel.bottom)
    parts = []
    for (name, y), height in zip(ranked, heights, strict=True):
        leader = f"M{panel.right} {y:.1f}L{panel.right + 8} {height:.1f}"
        parts += [element("path", d=leader, class_="leader"), label(name, panel.right + 12, height + 4, "start")]
    return parts


def spread_out(positions: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Ascending positions, moved as little as needed to be `apart` , within low and high if they fit."""
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + apart) if moved else max(position, low))
    ceiling = max(high, low + apart * (len(moved) - 1))
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - apart
    return moved


def mark_class(column: Column) -> str:
    """Filled; hollow for the base and for a LoRA that is not at full strength."""
    return "mark hollow" if column.is_base or column.strength != 1.0 else "mark"
