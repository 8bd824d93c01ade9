"""Curves of the validations while training: likeness, prompt fidelity, copies and held-out loss over steps. SVG."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from limner.records import AdapterRecord, ValidationRecord
from limner.reporting.svg import Scale, element, padded, path_through, round_ticks

WIDTH, HEIGHT = 340.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 332.0, 30.0, 140.0
LOSS_TOP, LOSS_BOTTOM = 170.0, 208.0
LINES = {"likeness_share": ("likeness ―", None), "fidelity_share": ("prompt fidelity – –", "7 4")}
LINES |= {"copying_share": ("copies · ·", "1.5 4")}

Points = list[tuple[float, float]]


def validation_panel(label: str, record: AdapterRecord, colour: str) -> Markup | None:
    """The panel of one adapter's record; None where fewer than two validations were scored."""
    curve = record.validation
    lines = {name: points for name in LINES if len(points := points_of(curve, name)) > 1}
    losses = points_of(curve, "validation_loss")
    if not lines and len(losses) < 2:
        return None
    steps = Scale(0.0, max(entry.step for entry in curve), LEFT, RIGHT)
    chosen = record.chosen.step if record.chosen else None
    parts = [*_shares(lines, steps, colour), *_losses(losses, steps, colour), *_steps(steps)]
    if chosen is not None:
        parts += _mark(steps(chosen), chosen)
    said = f"{label}: {len(curve)} validations" + (f", step {chosen:,} chosen" if chosen is not None else "")
    return element(
        "svg", *parts, class_="chart curve", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img", aria_label=said
    )


def chosen_fact(record: AdapterRecord) -> list[str]:
    """Which step is delivered and why, where a rule or a validation said so."""
    chosen = record.chosen
    if chosen is None:
        return []
    stopped = f", training stopped after step {chosen.stopped_at:,}" if chosen.stopped_at else ""
    return [f"step {chosen.step:,} kept ({chosen.why}{stopped})"]


def points_of(curve: Sequence[ValidationRecord], name: str) -> Points:
    """The steps at which a value was measured, and the value."""
    return [(float(entry.step), value) for entry in curve if (value := getattr(entry, name)) is not None]


def _shares(lines: dict[str, Points], steps: Scale, colour: str) -> list[Markup]:
    if not lines:
        return []
    values = [value for points in lines.values() for _, value in points]
    axis = Scale(min(0.0, *values), max(1.0, *values), BOTTOM, TOP)
    parts = []
    for tick in round_ticks(axis.low, axis.high, 4):
        parts.append(element("path", d=f"M{LEFT} {axis(tick):.1f}H{RIGHT}", class_="grid" if tick else "axis"))
        parts.append(element("text", f"{tick:.0%}", x=LEFT - 6, y=axis(tick) + 4, text_anchor="end"))
    for name, points in lines.items():
        path = path_through((steps(step), axis(value)) for step, value in points)
        parts.append(element("path", d=path, class_=f"line {colour}", stroke_dasharray=LINES[name][1]))
    legend = ", ".join(LINES[name][0] for name in lines)
    return [*parts, element("text", legend, x=LEFT, y=10.0, class_="note")]


def _losses(losses: Points, steps: Scale, colour: str) -> list[Markup]:
    if len(losses) < 2:
        return []
    axis = Scale(*padded([value for _, value in losses]), LOSS_BOTTOM, LOSS_TOP)
    least = min(losses, key=lambda point: point[1])
    note = f"loss on held-out photos, least {least[1]:.4f} at step {least[0]:,.0f}"
    return [
        element("path", d=path_through((steps(s), axis(v)) for s, v in losses), class_=f"line {colour}"),
        element("text", note, x=LEFT, y=LOSS_TOP - 8, class_="note"),
    ]


def _steps(steps: Scale) -> list[Markup]:
    parts = [element("path", d=f"M{LEFT} {LOSS_BOTTOM}H{RIGHT}", class_="axis")]
    for tick in round_ticks(0.0, steps.high, 4):
        anchor = "end" if steps(tick) > RIGHT - 12 else "middle"
        named = f"step {tick:,.0f}" if tick == 0 else f"{tick:,.0f}"
        parts.append(element("text", named, x=steps(tick), y=LOSS_BOTTOM + 17, text_anchor=anchor))
    return parts


def _mark(x: float, step: int) -> list[Markup]:
    """A line through both panels at the step whose weights are delivered."""
    anchor = "end" if x > (LEFT + RIGHT) / 2 else "start"
    words = element("text", f"step {step:,} kept", x=x, y=TOP - 5, text_anchor=anchor, class_="note")
    return [element("path", d=f"M{x:.1f} {TOP}V{LOSS_BOTTOM}", class_="axis", stroke_dasharray="3 3"), words]
