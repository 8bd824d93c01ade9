"""Does a score grow with the rank? The slope over log2(rank), an interval over the training seeds' slopes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from limner.statistics.comparison import ScoreDifference, Trained, Values, over_seeds

FEWEST_RANKS = 2


def rank_trend(by_rank: Mapping[int, Trained], span: float | None = None) -> ScoreDifference | None:
    """The score's gain for each doubling of the rank, by least squares in each training seed that has every rank.

    None where fewer than two ranks share a training seed and a picture.
    """
    if len(by_rank) < FEWEST_RANKS:
        return None
    seeds = sorted(set.intersection(*(set(trained) for trained in by_rank.values())))
    fitted = [_slope({rank: trained[seed] for rank, trained in by_rank.items()}) for seed in seeds]
    slopes = [each for each in fitted if each is not None]
    if not slopes:
        return None
    return over_seeds([slope for slope, _ in slopes], span, sum(count for _, count in slopes), "paired")


def best_by_others(candidates: Sequence[Trained], better: Literal["higher", "lower"] = "higher") -> Trained:
    """Of one rank's learning rates, for each training seed the one that is best on average over the other seeds.

    Choosing by other seeds than those that are reported keeps the choice out of the result; a seed without others
    takes the first learning rate. Only seeds that every candidate has are used.
    """
    seeds = sorted(set.intersection(*(set(trained) for trained in candidates)))
    best = max if better == "higher" else min
    return {seed: best(candidates, key=lambda c, s=seed: _mean_without(c, seeds, s))[seed] for seed in seeds}


def _mean_without(candidate: Trained, seeds: Sequence[int], seed: int) -> float:
    others = [statistics.fmean(candidate[other].values()) for other in seeds if other != seed and candidate[other]]
    return statistics.fmean(others) if others else 0.0


def _slope(by_rank: Mapping[int, Values]) -> tuple[float, int] | None:
    """Slope over log2(rank) of the means over the pictures that every rank has, and how many values went in."""
    cells = sorted(set.intersection(*(set(values) for values in by_rank.values())))
    if not cells:
        return None
    means = [statistics.fmean(values[cell] for cell in cells) for values in by_rank.values()]
    slope = statistics.linear_regression([math.log2(rank) for rank in by_rank], means).slope
    return slope, len(cells) * len(by_rank)
