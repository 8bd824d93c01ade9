"""What a chart draws of a column: a mean, and bars that say either how sure it is or how the pictures vary."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from limner.artifacts import Cell
from limner.reporting.columns import Column
from limner.reporting.findings import PictureScores, signless
from limner.statistics import FEWEST_SEEDS, mean_over_seeds

INTERVALS = "The bars are 95% intervals over training seeds."
SPREADS = (
    "The bars span one standard deviation of the pictures to either side: they describe these pictures and say nothing "
    "of other training seeds."
)
BOTH = (
    f"The bars are 95% intervals over training seeds where there are {FEWEST_SEEDS} or more; elsewhere they span one "
    "standard deviation of the pictures."
)

SPREAD_NOTES = {
    "interval": "Beside a mean stands its 95% interval over training seeds.",
    "spread": "± is one standard deviation of the pictures.",
}


@dataclass(frozen=True)
class Estimate:
    """A column's mean of a score, and where its bars end."""

    mean: float
    low: float
    high: float
    kind: Literal["interval", "spread"]
    pictures: int

    def __str__(self) -> str:
        if self.kind == "interval":
            return f"{signless(self.mean)} ({signless(self.low)} to {signless(self.high)})"
        return signless(self.mean) + (f" ± {signless(self.high - self.mean)}" if self.pictures > 1 else "")


def estimate(column: Column, cells: Iterable[Cell], scores: PictureScores, metric: str | None) -> Estimate | None:
    """The mean over training seeds of a column's means over pictures; None where it has no value."""
    trained: dict[int, dict[tuple[str, int, int], float]] = {}
    for index, cell in enumerate(cells):
        value = scores.value(cell, metric) if cell.variant in column.labels else None
        if value is not None:
            trained.setdefault(column.labels.index(cell.variant), {})["", index, 0] = value
    if not trained:
        return None
    mean = mean_over_seeds(trained)
    if mean.interval:
        return Estimate(mean.value, *mean.interval, "interval", mean.pictures)
    values = [value for pictures in trained.values() for value in pictures.values()]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return Estimate(mean.value, mean.value - spread, mean.value + spread, "spread", mean.pictures)


def bars_sentence(estimates: Sequence[Estimate]) -> str:
    """What the bars of a chart are."""
    kinds = {each.kind for each in estimates}
    if len(kinds) > 1:
        return BOTH
    return INTERVALS if kinds == {"interval"} else SPREADS


def spread_sentence(estimates: Sequence[Estimate]) -> str:
    """What stands beside the means of a table; nothing where each is of one picture."""
    kinds = {each.kind for each in estimates if each.kind == "interval" or each.pictures > 1}
    return " ".join(said for kind, said in SPREAD_NOTES.items() if kind in kinds)
