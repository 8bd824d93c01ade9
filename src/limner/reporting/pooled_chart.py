"""Gain in a metric over the rank, with intervals over subjects: one SVG file by itself."""

from __future__ import annotations

import math

from markupsafe import Markup

from limner.metrics import metric_named
from limner.reporting.pooled import Pooled
from limner.reporting.svg import Scale, element, padded, path_through, round_ticks
from limner.statistics import Estimated, ScoreDifference, Variant

WIDTH, HEIGHT = 640.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 500.0, 30.0, 330.0
STYLE = """
svg{font:13px system-ui,sans-serif;fill:#222;background:#fff}
.axis{stroke:#555;fill:none}.grid{stroke:#e3e3e3}.line{stroke:#12345f;fill:none;stroke-width:1.6}
.bars{stroke:#12345f;stroke-width:1.6}.mark{fill:#12345f}.check{fill:#fff;stroke:#12345f;stroke-width:1.6}
.level{stroke:#8f2a12;stroke-dasharray:5 4}.band{fill:#c2512f;opacity:.13}.note{fill:#8f2a12}
"""
Point = tuple[Variant, ScoreDifference]


def rank_chart(pooled: Pooled) -> str:
    """The drawing; empty where fewer than two ranks have a gain."""
    table = pooled.ranked
    gains = [(v, gain) for v in pooled.variants if table and (gain := pooled.gain(table, v.name)) is not None]
    ranked = sorted((each for each in gains if each[0].rank), key=lambda each: each[0].rank or 0)
    whole = [each for each in gains if not each[0].rank and each[0].name in pooled.trained]
    if table is None or len(ranked) < 2:
        return ""
    ends = [end for _, gain in [*ranked, *whole] for end in reach(gain)]
    low, high = padded([0.0, *ends, *([table.span] if table.span else [])])
    x_axis = Scale(*padded([math.log2(v.rank or 1) for v, _ in ranked]), LEFT, RIGHT)
    y_axis = Scale(low, high, BOTTOM, TOP)
    parts = [
        element("style", Markup(STYLE)),
        *_frame(metric_named(table.metric).words["en"].noun, ranked, x_axis, y_axis),
    ]
    for variant, gain in whole:
        parts += _band(variant.name, gain, y_axis)
    parts += _level("the base", 0.0, y_axis)
    parts += _level("real photos", table.span, y_axis) if table.span else []
    parts += _ranks(ranked, pooled.not_low, x_axis, y_axis)
    size = f"0 0 {WIDTH:g} {HEIGHT:g}"
    said = "; ".join(f"{variant.name}: {gain.difference:.3f}" for variant, gain in [*whole, *ranked])
    label = f"Gain in {table.metric} over the base. {said}."
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": size, "role": "img", "aria_label": label}
    return str(element("svg", *parts, **attributes)) + "\n"


def reach(gain: ScoreDifference) -> tuple[float, float]:
    """The ends of its interval; of what was only described, itself."""
    return gain.interval if isinstance(gain, Estimated) else (gain.difference, gain.difference)


def _frame(noun: str, ranked: list[Point], x_axis: Scale, y_axis: Scale) -> list[Markup]:
    parts = [element("text", f"{noun} less the base's, 95% intervals over subjects", x=2.0, y=16.0)]
    for tick in round_ticks(y_axis.low, y_axis.high, 6):
        y = y_axis(tick)
        parts.append(element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="grid"))
        parts.append(element("text", f"{tick:g}".replace("-", "−"), x=LEFT - 8, y=y + 4, text_anchor="end"))
    parts.append(element("path", d=f"M{LEFT} {BOTTOM}H{RIGHT}", class_="axis"))
    for variant, _ in ranked:
        x = x_axis(math.log2(variant.rank or 1))
        parts.append(element("text", str(variant.rank), x=x, y=BOTTOM + 18, text_anchor="middle"))
    return [*parts, element("text", "rank", x=RIGHT, y=BOTTOM + 38, text_anchor="end")]


def _band(name: str, gain: ScoreDifference, y_axis: Scale) -> list[Markup]:
    low, high = (y_axis(end) for end in reach(gain))
    band = element("rect", x=LEFT, y=high, width=RIGHT - LEFT, height=max(0.0, low - high), class_="band")
    return [band, *_level(name, gain.difference, y_axis)]


def _level(name: str, value: float, y_axis: Scale) -> list[Markup]:
    y = y_axis(value)
    line = element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="level")
    return [line, element("text", name, x=RIGHT + 8, y=y + 4, class_="note")]


def _ranks(ranked: list[Point], not_low: list[str], x_axis: Scale, y_axis: Scale) -> list[Markup]:
    """The ranks' means; hollow where a rank is no longer low for a layer."""
    points = [(x_axis(math.log2(variant.rank or 1)), y_axis(gain.difference)) for variant, gain in ranked]
    parts = [element("path", d=path_through(points), class_="line")]
    for (variant, gain), (x, y) in zip(ranked, points, strict=True):
        low, high = (y_axis(end) for end in reach(gain))
        parts.append(element("path", d=f"M{x:.1f} {low:.1f}V{high:.1f}", class_="bars"))
        parts.append(element("circle", cx=x, cy=y, r=5.0, class_="check" if variant.name in not_low else "mark"))
    return parts
