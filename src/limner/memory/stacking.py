"""How many variants can be trained together."""

from __future__ import annotations

from limner.config import Study, VariantRun
from limner.memory.calibration import usable
from limner.memory.prediction import Parts, train_peak


def largest_stack(run: VariantRun, count: int, study: Study, parts: Parts, budget_gib: float | None) -> int:
    """How many of `count` variants fit together, `run` being the largest; at least one.

    Without a budget all do.
    """
    if budget_gib is None:
        return count
    fits = (n for n in range(count, 1, -1) if train_peak(run, study, parts, stacked=n).bytes <= usable(budget_gib))
    return next(fits, 1)
