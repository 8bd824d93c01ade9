"""Many comparisons at once: Holm's step-down method.

With probability 95% at least, no pair of a family that is equal in truth is called different, whatever the truth of the
others and however the comparisons depend on each other (Holm 1979). The interval beside a comparison has the level at
which Holm's method decided it: each by itself covers with at least 95%, and it excludes zero just where the difference
is shown. That all intervals of a family cover at once is not claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from limner.statistics.comparison import Estimated, ScoreDifference
from limner.statistics.student import LEVEL


@dataclass(frozen=True)
class Decision:
    """What Holm's method makes of one p."""

    adjusted_p: float
    level: float  # at which it was tested; of those after the first failure, the level of that failure


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[Decision]:
    """Decisions in the order of `p_values`; a difference is shown where its adjusted p is at most `level`."""
    decisions: dict[int, Decision] = {}
    adjusted, step_level = 0.0, level
    for order, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if adjusted <= level:  # nothing has failed yet
            step_level = level / (len(p_values) - order)
        adjusted = min(1.0, max(adjusted, (len(p_values) - order) * p_values[index]))
        decisions[index] = Decision(adjusted, step_level)
    return [decisions[index] for index in range(len(p_values))]


def correct(family: Sequence[ScoreDifference | None]) -> list[ScoreDifference | None]:
    """The family with its tests corrected for each other; what was only described is not part of it."""
    tests = [each for each in family if isinstance(each, Estimated)]
    decisions = iter(holm([test.p for test in tests]))
    return [_decided(each, next(decisions), len(tests)) if isinstance(each, Estimated) else each for each in family]


def _decided(test: Estimated, decision: Decision, family: int) -> Estimated:
    return replace(test, adjusted_p=decision.adjusted_p, level=decision.level, family=family)
