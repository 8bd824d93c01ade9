"""Which validated step is best: likeness and prompt fidelity under a copying limit, as a pure function of the curve.

A curve is a list of records, one a validation, in the order of steps. Of a record the rule reads `step` and, each None
where it could not be measured:

- `likeness_share`: likeness as a share of the span from the base's renders (0) to real photos (1);
- `fidelity_share`: prompt fidelity as a share of the span from a picture of another prompt (0) to the base's own (1);
- `copying_share`: how many of the pictures are nearer to a training photo than any photo to another.

Few pictures are noisy, so a step is judged by the mean over itself and its neighbours. A step whose neighbours have
all been seen is decided: later validations cannot change what it is worth.

Both shares are joined by their weighted geometric mean. A weighted sum would give an untrained base the whole weight
of prompt fidelity; by their product a step that is no more alike than the base is worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.config import Validation
from limner.records import ChosenStep, ValidationRecord

RULE_VERSION = 2  # 1 weighed the sum of both shares


@dataclass(frozen=True)
class Judged:
    """What a step is worth."""

    step: int
    score: float  # weighted geometric mean of both shares, each counted from 0 to 1
    likeness: float
    copying: float
    copies: bool  # more than the limit allows

    @property
    def order(self) -> tuple[float, float, float, int]:
        """Larger is better: within the copying limit, then the score, of steps worth nothing the more alike, then the
        earlier step."""
        nearest = self.likeness if self.score == 0 else 0.0
        return (-self.copying if self.copies else 0.0, self.score, nearest, -self.step)


def judged(curve: Sequence[ValidationRecord], settings: Validation) -> list[Judged]:
    """Every validation that has all three values, with its neighbours'."""
    usable = [record for record in curve if can_judge(record)]
    rows = [_values(record) for record in usable]
    result = []
    for index, record in enumerate(usable):
        window = rows[max(0, index - settings.neighbours) : index + settings.neighbours + 1]
        likeness, fidelity, copying = (sum(column) / len(window) for column in zip(*window, strict=True))
        score = joined(likeness, fidelity, settings.likeness_weight)
        result.append(Judged(record.step, score, likeness, copying, copying > settings.copying_limit))
    return result


def joined(likeness_share: float, fidelity_share: float, likeness_weight: float = 0.5) -> float:
    """The weighted geometric mean of both shares, each counted from 0 to 1: of nothing, or of the best there is."""
    likeness, fidelity = (min(max(share, 0.0), 1.0) for share in (likeness_share, fidelity_share))
    return likeness**likeness_weight * fidelity ** (1 - likeness_weight)


def possible_steps(curve: Sequence[ValidationRecord], settings: Validation) -> set[int]:
    """Steps that may still be chosen whatever comes: the best of those decided, and all that are not."""
    steps = judged(curve, settings)
    first_open = max(0, len(steps) - settings.neighbours)
    decided, undecided = steps[:first_open], steps[first_open:]
    best = [max(decided, key=lambda one: one.order).step] if decided else []
    return {*best, *(one.step for one in undecided)}


def most_kept(settings: Validation) -> int:
    """How many steps' weights wait at most: the best of those decided, those undecided, and the newest beside them."""
    return settings.neighbours + 2 if settings.keep == "best" else 0


def stopping_step(curve: Sequence[ValidationRecord], settings: Validation) -> int | None:
    """The validation after which training stops: the best decided step is `patience` validations behind the newest.
    It does not stop before any step is worth something."""
    if not settings.patience:
        return None
    decided = judged(curve, settings)
    for seen in range(1, len(decided) - settings.neighbours + 1):
        best = max(range(seen), key=lambda index: decided[index].order)
        if decided[best].score > 0 and seen - 1 - best >= settings.patience:
            return decided[seen - 1 + settings.neighbours].step
    return None


def choose(curve: Sequence[ValidationRecord], settings: Validation, last_step: int) -> ChosenStep:
    """The step to deliver. Where the rule cannot be applied it is the last, and `why` says so."""
    stopped = stopping_step(curve, settings)
    seen = [record for record in curve if stopped is None or record.step <= stopped]
    steps = judged(seen, settings)
    if settings.keep != "best":
        return ChosenStep(step=last_step, why='the last step, as keep = "last" asks')
    if not steps:
        why = "the last step: likeness, prompt fidelity or copying could not be measured"
        return ChosenStep(step=last_step, why=why)
    best = max(steps, key=lambda one: one.order)
    within = "within" if not best.copies else "nearest to, as no step was within,"
    why = (
        f"best of {len(steps)} validated steps: {best.score:.3f}, {within} the copying limit "
        f"({best.copying:.0%} of at most {settings.copying_limit:.0%}); the last is {steps[-1].score:.3f}"
    )
    return ChosenStep(step=best.step, why=why, stopped_at=stopped)


def can_judge(record: ValidationRecord) -> bool:
    """Whether all that the rule needs was measured."""
    return None not in _values(record)


def _values(record: ValidationRecord) -> tuple[float | None, float | None, float | None]:
    return record.likeness_share, record.fidelity_share, record.copying_share
