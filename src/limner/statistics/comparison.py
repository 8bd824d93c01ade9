"""Two variants compared on a score: t intervals over the means of training seeds.

A training seed is a cluster: all pictures of one adapter share its luck, so a variant has as many independent values
as it has training seeds, however many pictures were made. Of each training seed the mean difference over the pictures
(cells) that both sides have is taken, and Student's t (1908) is applied to these few means.
Prompts and render seeds are the study's own and not drawn: what is said holds for them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from limner.statistics.student import LEVEL, critical_t, detectable, two_sided_p

FEWEST_SEEDS = 3  # training seeds below which nothing more than description is fair
SMALLEST_SPREAD = 1e-9  # scores have six decimals; what is below comes from adding them up

PictureKey = tuple[str, int, int]  # prompt, render seed, image index
Values = Mapping[PictureKey, float]
Trained = Mapping[int, Values]  # by training seed
Design = Literal["paired", "unpaired", "against base"]


@dataclass(frozen=True)
class ScoreDifference:
    """How much more the one scores than the other."""

    difference: float
    span: float | None  # ceiling less floor of the score, where it has both
    training_seeds: int  # of the side that has fewer
    pictures: int  # of one side, over all training seeds

    @property
    def span_share(self) -> float | None:
        """The effect size: the difference in units of the span from floor to ceiling."""
        return self.difference / self.span if self.span else None


@dataclass(frozen=True)
class Described(ScoreDifference):
    """A difference as it was seen. It has no interval and no p: nothing follows from it for other training seeds."""

    reason: Literal["few seeds", "no spread"]


@dataclass(frozen=True)
class Estimated(ScoreDifference):
    """A difference with its interval, and its p among those of its family."""

    standard_error: float
    degrees_of_freedom: float
    design: Design
    p: float
    adjusted_p: float  # by Holm's method, in the family; p itself where the family is one
    level: float = LEVEL  # at which the family's procedure decided; the interval covers with 1 - level
    family: int = 1  # how many comparisons the correction is for

    @property
    def is_shown(self) -> bool:
        """Whether the difference is there, with all others of the family at the 5% level together."""
        return self.adjusted_p <= LEVEL

    @property
    def interval(self) -> tuple[float, float]:
        """Where the difference lies with a confidence of 1 - level; it excludes zero just where it is shown."""
        reach = critical_t(self.level, self.degrees_of_freedom) * self.standard_error
        return self.difference - reach, self.difference + reach

    @property
    def detectable(self) -> float:
        """The difference that would have been found with 80% power, from the spread that was observed."""
        return detectable(self.standard_error, self.degrees_of_freedom, self.level)


@dataclass(frozen=True)
class Mean:
    """The mean of a variant's values, and where it would lie over all training seeds."""

    value: float  # mean over training seeds of the means over pictures
    interval: tuple[float, float] | None  # Student's t over the training seeds; None for fewer than three, or copies
    training_seeds: int
    pictures: int  # over all training seeds


def mean_over_seeds(trained: Trained) -> Mean:
    """The mean of a variant's values with its 95% interval over training seeds; ValueError where it has none."""
    means = [statistics.fmean(values.values()) for values in trained.values() if values]
    if not means:
        raise ValueError("a variant without values has no mean")
    pictures = sum(len(values) for values in trained.values())
    overall = over_seeds(means, None, pictures, "against base")
    interval = overall.interval if isinstance(overall, Estimated) else None
    return Mean(overall.difference, interval, len(means), pictures)


def compare(ours: Trained, theirs: Trained, span: float | None = None) -> ScoreDifference | None:
    """Our values less theirs; None where no picture has its counterpart.

    Variants trained with the same seeds saw the same data and noise, so they are paired by training seed. Where they
    share fewer than three and each has three or more of its own, Welch's unpaired test is taken.
    """
    pairs = {seed: _differences(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())}
    paired = {seed: each for seed, each in pairs.items() if each}
    if len(paired) < FEWEST_SEEDS <= min(len(ours), len(theirs)) and ours.keys() != theirs.keys():
        return _unpaired(ours, theirs, span)
    if paired:
        return over_seeds([statistics.fmean(d) for d in paired.values()], span, _total(paired.values()), "paired")
    return _seen(ours, theirs, span)


def compare_with_base(ours: Trained, base: Values, span: float | None = None) -> ScoreDifference | None:
    """Our values less the untouched base's of the same pictures; the base has no training seed."""
    pairs = [_differences(values, base) for _, values in sorted(ours.items())]
    kept = [each for each in pairs if each]
    if not kept:
        return None
    return over_seeds([statistics.fmean(each) for each in kept], span, _total(kept), "against base")


def over_seeds(means: Sequence[float], span: float | None, pictures: int, design: Design) -> ScoreDifference:
    """What the means of training seeds say of the mean over all training seeds: a one-sample t."""
    count, mean = len(means), statistics.fmean(means)
    if count < FEWEST_SEEDS:
        return Described(mean, span, count, pictures, "few seeds")
    error = statistics.stdev(means) / count**0.5
    return _tested(mean, span, count, pictures, error, count - 1, design)


def _unpaired(ours: Trained, theirs: Trained, span: float | None) -> ScoreDifference | None:
    """Welch's test (1947) of the training seeds' means over the pictures that all of them have."""
    cells = _shared_cells([*ours.values(), *theirs.values()])
    if not cells:
        return None
    sides = [[statistics.fmean(values[cell] for cell in cells) for values in side.values()] for side in (ours, theirs)]
    first, second = (statistics.variance(means) / len(means) for means in sides)
    difference = statistics.fmean(sides[0]) - statistics.fmean(sides[1])
    fewest, pictures, error = min(map(len, sides)), len(cells) * len(ours), (first + second) ** 0.5
    parts = first**2 / (len(sides[0]) - 1) + second**2 / (len(sides[1]) - 1)
    freedom = (first + second) ** 2 / parts if parts else 1.0  # without spread nothing is tested
    return _tested(difference, span, fewest, pictures, error, freedom, "unpaired")


def _seen(ours: Trained, theirs: Trained, span: float | None) -> ScoreDifference | None:
    """The difference of few seeds that are not the same: of the means over the pictures that all of them have."""
    cells = _shared_cells([*ours.values(), *theirs.values()])
    if not cells:
        return None
    means = [statistics.fmean(v[cell] for v in side.values() for cell in cells) for side in (ours, theirs)]
    pictures = len(cells) * len(ours)
    return Described(means[0] - means[1], span, min(len(ours), len(theirs)), pictures, "few seeds")


def _tested(
    difference: float, span: float | None, seeds: int, pictures: int, error: float, freedom: float, design: Design
) -> ScoreDifference:
    if error <= SMALLEST_SPREAD:  # the training seeds are copies of each other, not independent values
        return Described(difference, span, seeds, pictures, "no spread")
    p = two_sided_p(difference / error, freedom)
    return Estimated(difference, span, seeds, pictures, error, freedom, design, p, p)


def _differences(ours: Values, theirs: Values) -> list[float]:
    return [ours[cell] - theirs[cell] for cell in sorted(ours.keys() & theirs.keys())]


def _shared_cells(sides: Sequence[Values]) -> list[PictureKey]:
    return sorted(set.intersection(*(set(values) for values in sides))) if sides else []


def _total(groups: Iterable[Sequence[float]]) -> int:
    return sum(len(group) for group in groups)
