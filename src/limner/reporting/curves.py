"""Training curves: for each adapter its loss above its learning rate, and its validations' scores. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limner.artifacts import AdapterFolder
from limner.records import AdapterRecord, StepRecord
from limner.reporting.columns import Column, number
from limner.reporting.svg import Scale, element, path_through, round_ticks
from limner.reporting.validation_curves import chosen_fact, validation_panel

WIDTH, HEIGHT = 340.0, 222.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 332.0, 20.0, 140.0
RATE_TOP, RATE_BOTTOM = 166.0, 194.0
SMOOTHED_SHARE = 0.1  # the smoothed line looks back over about a tenth of the logged steps
SHOWN_SHARE = 0.98  # of the raw losses below the panels' top


@dataclass(frozen=True)
class TrainingCurve:
    """One adapter's panel; `svg` is None where it has no log."""

    label: str
    colour: str
    facts: list[str]
    svg: Markup | None


def training_curves(adapters: Sequence[AdapterFolder], columns: Sequence[Column]) -> list[TrainingCurve]:
    """A panel for each adapter, all on the same scale of loss."""
    losses = sorted(entry.loss for adapter in adapters for entry in adapter.record.log)
    top = losses[int((len(losses) - 1) * SHOWN_SHARE)] * 1.05 if losses else 1.0
    colours = {label: f"k{index}" for index, column in enumerate(columns) for label in column.labels}
    return [
        TrainingCurve(
            adapter.label,
            colours.get(adapter.label, "k0"),
            _facts(adapter.record),
            _panels(adapter, top or 1.0, colours.get(adapter.label, "k0")),
        )
        for adapter in adapters
        if not adapter.record.made_elsewhere
    ]


def _panels(adapter: AdapterFolder, top: float, colour: str) -> Markup | None:
    """The panel of losses, and beneath it that of validations where they were scored."""
    panels = [
        _panel(adapter.label, adapter.record.log, top, colour),
        validation_panel(adapter.label, adapter.record, colour),
    ]
    drawn = [panel for panel in panels if panel is not None]
    return Markup("").join(drawn) if drawn else None


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean with exponentially fading weights, unbiased from the first value on."""
    keep = 1 - 1 / max(1.0, len(values) * SMOOTHED_SHARE)
    total = weight = 0.0
    result = []
    for value in values:
        total, weight = total * keep + value, weight * keep + 1.0
        result.append(total / weight)
    return result


def _facts(record: AdapterRecord) -> list[str]:
    facts = [f"{record.steps:,} steps"]
    if record.trainable_parameters:
        facts.append(f"{short_count(record.trainable_parameters)} parameters trained")
    if record.seconds_per_step:
        facts.append(f"{record.seconds_per_step * 1000:,.0f} ms a step")
    if record.start_from:
        facts.append(f"from {record.start_from.label}")
    return facts + chosen_fact(record)


def short_count(count: float) -> str:
    """860 M, 1.2 M, 34 k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:g}"


def _panel(label: str, log: Sequence[StepRecord], top: float, colour: str) -> Markup | None:
    if len(log) < 2:
        return None
    steps = [float(entry.step) for entry in log]
    losses = [entry.loss for entry in log]
    x_axis = Scale(0.0, max(steps), LEFT, RIGHT)
    y_axis = Scale(0.0, top, BOTTOM, TOP)
    raw = [(x_axis(step), y_axis(min(loss, top))) for step, loss in zip(steps, losses, strict=True)]
    mean = [(x_axis(step), y_axis(min(loss, top))) for step, loss in zip(steps, smoothed(losses), strict=True)]
    parts = [
        *_axes(x_axis, y_axis),
        element("path", d=path_through(raw), class_=f"raw {colour}"),
        element("path", d=path_through(mean), class_=f"line {colour}"),
        *_rates([(s, e.learning_rate) for s, e in zip(steps, log, strict=True)], x_axis),
    ]
    last = smoothed(losses)[-1]
    said = f"{label}: loss over {steps[-1]:,.0f} steps, smoothed {last:.3f} at the last"
    return element(
        "svg",
        *parts,
        class_="chart curve",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=said,
    )


def _axes(x_axis: Scale, y_axis: Scale) -> list[Markup]:
    parts = []
    for tick in round_ticks(0.0, y_axis.high, 4):
        y = y_axis(tick)
        parts.append(element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="grid" if tick else "axis"))
        parts.append(element("text", f"{tick:g}", x=LEFT - 6, y=y + 4, text_anchor="end"))
    for tick in round_ticks(0.0, x_axis.high, 4):
        anchor = "end" if x_axis(tick) > RIGHT - 12 else "middle"
        named = f"step {tick:,.0f}" if tick == 0 else f"{tick:,.0f}"
        parts.append(element("text", named, x=x_axis(tick), y=RATE_BOTTOM + 17, text_anchor=anchor))
    parts.append(element("text", "loss (mean squared error)", x=LEFT, y=TOP - 8, class_="note"))
    return parts


def _rates(rates: Sequence[tuple[float, float]], x_axis: Scale) -> list[Markup]:
    peak = max(rate for _, rate in rates)
    axis = Scale(0.0, peak or 1.0, RATE_BOTTOM, RATE_TOP)
    line = path_through((x_axis(step), axis(rate)) for step, rate in rates)
    first, last = x_axis(rates[0][0]), x_axis(rates[-1][0])
    return [
        element("path", d=f"{line}L{last:.1f} {RATE_BOTTOM}L{first:.1f} {RATE_BOTTOM}Z", class_="rate"),
        element("path", d=f"M{LEFT} {RATE_BOTTOM}H{RIGHT}", class_="axis"),
        element("text", f"learning rate, at most {number(peak)}", x=LEFT, y=RATE_TOP - 6, class_="note"),
    ]
