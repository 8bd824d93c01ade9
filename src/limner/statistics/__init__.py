"""What scores carry: comparisons, corrections, trends and conclusions as pure functions of plain numbers."""

from limner.statistics.comparison import (
    FEWEST_SEEDS,
    Described,
    Estimated,
    Mean,
    ScoreDifference,
    compare,
    compare_with_base,
    mean_over_seeds,
    over_seeds,
)
from limner.statistics.conclusions import LEAST_POWER, conclude
from limner.statistics.corrections import Decision, correct, holm
from limner.statistics.findings import Conclusions, Finding, Sweep, Variant
from limner.statistics.front import surpassed_by
from limner.statistics.student import LEVEL, POWER, critical_t, detectable, two_sided_p
from limner.statistics.trend import best_by_others, rank_trend

__all__ = [
    "FEWEST_SEEDS",
    "LEAST_POWER",
    "LEVEL",
    "POWER",
    "Conclusions",
    "Decision",
    "Described",
    "Estimated",
    "Finding",
    "Mean",
    "ScoreDifference",
    "Sweep",
    "Variant",
    "best_by_others",
    "compare",
    "compare_with_base",
    "conclude",
    "correct",
    "critical_t",
    "detectable",
    "holm",
    "mean_over_seeds",
    "over_seeds",
    "rank_trend",
    "surpassed_by",
    "two_sided_p",
]
