"""Several subjects taken together: t intervals over the subjects' means.

Here the subject is the cluster: what is to be known is whether a difference would hold for another subject. The
training seeds of a subject are averaged first; how far they scatter within a subject is given with it.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from limner.metrics import all_metrics, metric_named, role_of
from limner.statistics.comparison import FEWEST_SEEDS, ScoreDifference, Trained, Values, over_seeds
from limner.statistics.conclusions import LEAST_POWER
from limner.statistics.corrections import correct
from limner.statistics.findings import (
    AgainstBase,
    Conclusions,
    Finding,
    NotConcluded,
    OverLimit,
    Pair,
    PowerUnknown,
    PromptsLeftOut,
    RankTrend,
    Variant,
)
from limner.statistics.trend import FEWEST_RANKS, rank_trend

FEWEST_SUBJECTS = FEWEST_SEEDS
BASE = "base"

Means = Mapping[str, float]  # by prompt
Seeds = Mapping[str, Means]  # by training seed, as text; the base has one, ""


@dataclass(frozen=True)
class SubjectScores:
    """What one subject's run says: means over pictures by metric, variant, training seed and prompt."""

    name: str
    values: Mapping[str, Mapping[str, Seeds]]
    ceilings: Mapping[str, float | None] = field(default_factory=dict)
    power: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # by metric and prompt
    copies: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)  # (over the limit, pictures)
    pictures_a_mean: int = 1


@dataclass(frozen=True)
class SubjectSpread:
    """One variant's score over all subjects: mean with its interval, and what it scatters by."""

    overall: ScoreDifference
    between_subjects: float | None  # standard deviation
    within_subjects: float | None  # standard deviation between the training seeds of one subject, pooled


@dataclass(frozen=True)
class PooledTable:
    """One metric's means by variant and subject, over the prompts that are fit for it."""

    metric: str
    span: float | None  # mean over subjects of ceiling less floor
    variants: Mapping[str, Trained]  # the base among them; subjects by their index
    weight: int  # pictures in a trained variant's mean of one prompt


def pool(subjects: Sequence[SubjectScores], variants: Sequence[Variant], not_low: Sequence[str] = ()) -> Conclusions:
    """All that the subjects carry together about `variants`. `not_low` names those whose rank is no longer low.

    Comparisons with the base, pairs and trends are three families a metric, each corrected by Holm's method.
    """
    findings: list[Finding] = []
    for metric in metrics_of(subjects):
        notes, table = pooled_table(subjects, metric)
        findings += notes
        if table:
            findings += [*_against_base(table), *_trends(table, variants, not_low), *_pairs(table)]
    return Conclusions((*findings, *_over_limits(subjects)))


def metrics_of(subjects: Sequence[SubjectScores]) -> list[str]:
    """The metrics that are compared, in their order."""
    named = list(dict.fromkeys(metric for subject in subjects for metric in subject.values))
    compared = [metric.name for metric in all_metrics() if metric.compared]
    return [metric for name in compared for metric in named if role_of(metric) == name]


def pooled_power(subjects: Sequence[SubjectScores], metric: str) -> dict[str, float | None]:
    """By prompt, the share of photos that the embedding names right under its style: the mean over subjects."""
    by_prompt: dict[str, list[float]] = {}
    for subject in subjects:
        for prompt, share in subject.power.get(metric, {}).items():
            by_prompt.setdefault(prompt, []).extend([] if share is None else [share])
    return {prompt: statistics.fmean(shares) if shares else None for prompt, shares in by_prompt.items()}


def pooled_table(subjects: Sequence[SubjectScores], metric: str) -> tuple[list[Finding], PooledTable | None]:
    """A metric's means, or why nothing is concluded from it, and what is to be said of its prompts."""
    if not metric_named(metric).needs_ceiling:
        return [], _table(subjects, metric, None)
    if not any(subject.ceilings.get(metric) is not None for subject in subjects):
        return [NotConcluded(metric, "no ceiling")], None
    power = pooled_power(subjects, metric)
    weak = {prompt: share for prompt, share in power.items() if share is not None and share < LEAST_POWER}
    unknown = tuple(prompt for prompt, share in power.items() if share is None)
    notes: list[Finding] = [PromptsLeftOut(metric, weak)] if weak else []
    if unknown:
        notes.append(PowerUnknown(metric, unknown, of_all=len(unknown) == len(power)))
    if power and len(weak) == len(power):
        return [*notes, NotConcluded(metric, "no power")], None
    return notes, _table(subjects, metric, set(weak))


def _table(subjects: Sequence[SubjectScores], metric: str, left_out: set[str] | None) -> PooledTable | None:
    variants: dict[str, dict[int, Values]] = {}
    for subject_index, subject in enumerate(subjects):
        for variant, seeds in subject.values.get(metric, {}).items():
            if means := over_training_seeds(seeds, left_out or set()):
                variants.setdefault(variant, {})[subject_index] = means
    if not variants:
        return None
    weight = subjects[0].pictures_a_mean * max(map(len, _seeds_of(subjects, metric)), default=1)
    return PooledTable(metric, _span(subjects, metric, variants.get(BASE, {})), variants, weight)


def _seeds_of(subjects: Sequence[SubjectScores], metric: str) -> Iterator[Seeds]:
    for subject in subjects:
        yield from subject.values.get(metric, {}).values()


def over_training_seeds(seeds: Seeds, left_out: set[str]) -> Values:
    """A subject's mean by prompt over its training seeds; of prompts that all of them have."""
    shared = set.intersection(*(set(means) for means in seeds.values())) - left_out if seeds else set()
    return {(p, 0, 0): statistics.fmean(means[p] for means in seeds.values()) for p in sorted(shared)}


def _span(subjects: Sequence[SubjectScores], metric: str, base: Trained) -> float | None:
    """Mean over subjects of their ceiling less what the base scores on the same prompts."""
    ceilings = {subject_index: subject.ceilings.get(metric) for subject_index, subject in enumerate(subjects)}
    spans = [top - statistics.fmean(base[p].values()) for p, top in ceilings.items() if top is not None and p in base]
    return statistics.fmean(spans) if spans and statistics.fmean(spans) > 0 else None


def compare_subjects(
    ours: Trained, theirs: Trained, span: float | None = None, weight: int = 1
) -> ScoreDifference | None:
    """Ours less theirs in each subject that has both, over the prompts that both have, then over subjects."""
    shared = {
        subject_index: sorted(ours[subject_index].keys() & theirs[subject_index].keys())
        for subject_index in sorted(ours.keys() & theirs.keys())
    }
    means = [statistics.fmean(ours[s][c] - theirs[s][c] for c in cells) for s, cells in shared.items() if cells]
    pictures = weight * sum(map(len, shared.values()))
    return over_seeds(means, span, pictures, "paired") if means else None


def spread(subjects: Sequence[SubjectScores], table: PooledTable, variant: str) -> SubjectSpread:
    """A variant's mean over subjects, with its interval, and the two standard deviations behind it."""
    means = [statistics.fmean(values.values()) for values in table.variants[variant].values()]
    within = [statistics.variance(of_seeds) for of_seeds in _seed_means(subjects, table, variant) if len(of_seeds) > 1]
    return SubjectSpread(
        over_seeds(means, None, table.weight * len(means), "paired"),
        statistics.stdev(means) if len(means) > 1 else None,
        statistics.fmean(within) ** 0.5 if within else None,
    )


def _seed_means(subjects: Sequence[SubjectScores], table: PooledTable, variant: str) -> Iterator[list[float]]:
    for subject_index, values in table.variants[variant].items():
        prompts = [prompt for prompt, _, _ in values]
        seeds = subjects[subject_index].values[table.metric][variant]
        yield [statistics.fmean(means[prompt] for prompt in prompts) for means in seeds.values()]


def _against_base(table: PooledTable) -> Iterator[Finding]:
    base = table.variants.get(BASE, {})
    trained = [name for name in table.variants if name != BASE]
    compared = [compare_subjects(table.variants[name], base, table.span, table.weight) for name in trained]
    for name, difference in zip(trained, correct(compared), strict=True):
        if difference:
            yield AgainstBase(table.metric, name, difference)


def _pairs(table: PooledTable) -> Iterator[Finding]:
    pairs = list(itertools.combinations([name for name in table.variants if name != BASE], 2))
    compared = [compare_subjects(table.variants[a], table.variants[b], table.span, table.weight) for a, b in pairs]
    for (one, other), difference in zip(pairs, correct(compared), strict=True):
        if difference:
            yield Pair(table.metric, one, other, difference)


def _trends(table: PooledTable, variants: Sequence[Variant], not_low: Sequence[str]) -> Iterator[Finding]:
    """For each sweep one over the ranks that are low, and one over all where some are not."""
    asked = []
    ranked = sorted((v for v in variants if v.rank and v.sweep and v.name in table.variants), key=lambda v: v.rank or 0)
    for sweep, rate in dict.fromkeys((v.sweep, v.learning_rate) for v in ranked):
        swept = [v for v in ranked if (v.sweep, v.learning_rate) == (sweep, rate)]
        low = [v for v in swept if v.name not in not_low]
        asked += [(sweep, rate, chosen) for chosen in ([low, swept] if len(low) < len(swept) else [swept])]
    asked = [each for each in asked if len(each[2]) >= FEWEST_RANKS]
    by_rank = [{v.rank or 0: table.variants[v.name] for v in chosen} for _, _, chosen in asked]
    slopes = correct([rank_trend(ranks, table.span) for ranks in by_rank])
    for (sweep, rate, _), ranks, slope in zip(asked, by_rank, slopes, strict=True):
        if slope and sweep:
            yield RankTrend(table.metric, tuple(ranks), sweep, rate, slope)


def _over_limits(subjects: Sequence[SubjectScores]) -> Iterator[Finding]:
    for metric in dict.fromkeys(metric for subject in subjects for metric in subject.copies):
        counts: dict[str, tuple[int, int]] = {}
        for subject in subjects:
            for variant, (over, pictures) in subject.copies.get(metric, {}).items():
                before = counts.get(variant, (0, 0))
                counts[variant] = before[0] + over, before[1] + pictures
        trained = {variant: count for variant, count in counts.items() if variant != BASE}
        if trained and metric_named(metric).limit:
            yield OverLimit(metric, trained, counts.get(BASE))
