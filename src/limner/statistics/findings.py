"""What can be found in a table of scores, each kind with its figures; sentences are made of these and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from limner.statistics.comparison import Mean, ScoreDifference

AlphaRule = Literal["alpha = rank", "alpha fixed", "alpha/sqrt(rank)"]


@dataclass(frozen=True)
class Sweep:
    """What LoRAs share that differ in nothing but rank and learning rate."""

    settings: str  # all others, as one text
    alpha_rule: AlphaRule
    alpha: float | None = None  # where it is fixed
    strength: float = 1.0  # at which the LoRAs were rendered


@dataclass(frozen=True)
class Variant:
    """One variant (or the base, which has no training seed): where its rows are found, and its rank."""

    name: str
    labels: Mapping[str, int | None]  # the rows' variant -> training seed
    rank: int | None = None
    learning_rate: float | None = None
    sweep: Sweep | None = None


@dataclass(frozen=True)
class NotConcluded:
    """Nothing is said of a metric, and why."""

    metric: str
    reason: Literal["no values", "no ceiling", "no power"]


@dataclass(frozen=True)
class PromptsLeftOut:
    """Prompts under whose style the embedding does not know the subject well enough, with its share right."""

    metric: str
    shares: Mapping[str, float]


@dataclass(frozen=True)
class PowerUnknown:
    """Prompts of which it was not measured whether the embedding knows the subject under their style."""

    metric: str
    prompts: tuple[str, ...]
    of_all: bool


@dataclass(frozen=True)
class FewSeeds:
    """Variants with too few training seeds: of them everything is descriptive."""

    training_seeds: int  # the fewest
    variants: tuple[str, ...]
    of_all: bool


@dataclass(frozen=True)
class MeanScore:
    """The mean of a score that is measured from the base and so has no other comparison with it."""

    metric: str
    variant: str
    mean: Mean


@dataclass(frozen=True)
class AgainstBase:
    """A variant's pictures less the base's of the same prompts and seeds; Holm's family: all variants."""

    metric: str
    variant: str
    difference: ScoreDifference


@dataclass(frozen=True)
class Pair:
    """The first variant less the second; Holm's family: all pairs of variants."""

    metric: str
    first: str
    second: str
    difference: ScoreDifference


@dataclass(frozen=True)
class RankTrend:
    """Gain of a score for each doubling of the rank; Holm's family: the metric's trends."""

    metric: str
    ranks: tuple[int, ...]
    sweep: Sweep
    learning_rate: float | None  # None: tuned for each rank
    slope: ScoreDifference


@dataclass(frozen=True)
class OverLimit:
    """How many of each variant's pictures are above the ceiling of a metric that has a limit, such as copying."""

    metric: str
    over: Mapping[str, tuple[int, int]]  # variant -> (pictures over the limit, pictures)
    base: tuple[int, int] | None


@dataclass(frozen=True)
class Front:
    """Which variants no other surpasses in both metrics of the trade-off, by their means."""

    y: str
    x: str
    members: Mapping[str, tuple[float, float]]  # variant -> (mean of y, mean of x)
    surpassed: Mapping[str, str]  # variant -> one that surpasses it


Finding = (
    NotConcluded | PromptsLeftOut | PowerUnknown | FewSeeds | MeanScore | AgainstBase | Pair | RankTrend | OverLimit
    | Front
)  # fmt: skip


@dataclass(frozen=True)
class Conclusions:
    """All that the scores of a study carry, in the order in which the report gives it."""

    findings: tuple[Finding, ...]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)


def difference_of(finding: Finding) -> ScoreDifference | None:
    """The difference that a finding is about."""
    if isinstance(finding, AgainstBase | Pair):
        return finding.difference
    return finding.slope if isinstance(finding, RankTrend) else None
