"""From the record of scores to what may be concluded from it. Plain numbers in, findings out, not a word.

Of a metric that needs a ceiling (likeness, the class's included) nothing is concluded where it could not be measured,
and prompts under whose style its embedding names the right subject in less than 60% of real photos are left out of it.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from limner.metrics import ShownAt, all_metrics, anchors_name, metric_named, metrics_shown, role_of
from limner.records import Anchors, ScoreRow, ScoresRecord
from limner.statistics.comparison import FEWEST_SEEDS, Trained, Values, compare, compare_with_base, mean_over_seeds
from limner.statistics.corrections import correct
from limner.statistics.findings import (
    AgainstBase,
    Conclusions,
    FewSeeds,
    Finding,
    Front,
    MeanScore,
    NotConcluded,
    OverLimit,
    Pair,
    PowerUnknown,
    PromptsLeftOut,
    RankTrend,
    Sweep,
    Variant,
)
from limner.statistics.front import surpassed_by
from limner.statistics.trend import FEWEST_RANKS, best_by_others, rank_trend

NO_ANCHORS = Anchors(ceiling=None, floor=None, note="")
LEAST_POWER = 0.6  # share of real photos in a style that an embedding must name right


@dataclass(frozen=True)
class Table:
    """One metric's values by variant and training seed, over the prompts that are fit for it."""

    metric: str
    span: float | None
    base: Values
    variants: Mapping[str, Trained]  # in the study's order, those without a value left out


def conclude(record: ScoresRecord, variants: Sequence[Variant]) -> Conclusions:
    """All that `record` (scores.json: rows, anchors) carries about `variants`, the base among them or not.

    Rows with a reference are read for metrics of conditioned pictures alone, and no others for them. Comparisons with
    the base, pairs and trends are three families a metric, each corrected by Holm's method.
    """
    trained = [variant for variant in variants if not _is_base(variant)]
    findings: list[Finding] = list(_few_seeds(trained))
    tables: dict[str, list[Table]] = {}
    for metric in _metrics(record):
        notes, table = _read(record, metric, variants)
        findings += notes
        if table:
            findings += [*_levels(table), *_against_base(table), *_trends(table, trained), *_pairs(table)]
            tables.setdefault(role_of(metric), []).append(table)
    findings += _over_limits(record, variants)
    findings += _front(*(_first(tables, shown_at) for shown_at in ("trade-off y", "trade-off x")))
    return Conclusions(tuple(findings))


def _few_seeds(trained: Sequence[Variant]) -> Iterator[Finding]:
    seeds = {variant.name: len(set(variant.labels.values())) for variant in trained}
    few = tuple(name for name, count in seeds.items() if count < FEWEST_SEEDS)
    if few:
        yield FewSeeds(min(seeds.values()), few, of_all=len(few) == len(seeds))


def _metrics(record: ScoresRecord) -> list[str]:
    """The metrics that are compared, in their order; a required one without values stands by its own name."""
    named = [row.metric for row in record.rows]
    listed = list(dict.fromkeys([*named, *record.anchors]))
    compared = [metric for metric in all_metrics() if metric.compared]
    by_metric = {each: [name for name in listed if role_of(name) == each.name] for each in compared}
    return [
        name for each, names in by_metric.items() for name in names or ([each.name] if each.required else [])
    ]  # fmt: skip


def _read(record: ScoresRecord, metric: str, variants: Sequence[Variant]) -> tuple[list[Finding], Table | None]:
    """A metric's table, or why it has none, and what is to be said of its prompts."""
    rows = [row for row in record.rows if _is_read(row, metric)]
    if not rows:
        return ([NotConcluded(metric, "no values")] if metric_named(metric).required else []), None
    anchored_by = anchors_name(metric)
    anchors = record.anchors.get(anchored_by, NO_ANCHORS)
    span = _span(anchors)
    if not metric_named(anchored_by).needs_ceiling:
        return [], _table(metric, span, rows, variants)
    if anchors.ceiling is None:
        return [NotConcluded(metric, "no ceiling")], None
    notes, kept = _by_power(metric, _powers(anchors), list(dict.fromkeys(row.prompt for row in rows)))
    fit = [row for row in rows if row.prompt in kept]
    return notes, _table(metric, span, fit, variants) if fit else None


def _powers(anchors: Anchors) -> dict[str, float | None]:
    """Power by prompt, None where it is not known: beside renders instead of photos of others a style's is a bound."""
    measured = anchors.power
    if anchors.power_others is None or anchors.power_others.real:
        return dict(measured)
    styled = {prompt for prompt, style in anchors.power_styles.items() if style}
    weak = {prompt for prompt, share in measured.items() if share is not None and share < LEAST_POWER}
    return {prompt: None if prompt in styled - weak else share for prompt, share in measured.items()}


def _by_power(metric: str, power: Mapping[str, float | None], prompts: Sequence[str]) -> tuple[list[Finding], set[str]]:
    weak = {prompt: share for prompt in prompts if (share := power.get(prompt)) is not None and share < LEAST_POWER}
    unknown = tuple(prompt for prompt in prompts if power.get(prompt) is None)
    notes: list[Finding] = []
    if weak:
        notes.append(PromptsLeftOut(metric, weak))
    if len(weak) == len(prompts):
        notes.append(NotConcluded(metric, "no power"))
    if unknown:
        notes.append(PowerUnknown(metric, unknown, of_all=len(unknown) == len(prompts)))
    return notes, set(prompts) - set(weak)


def _table(metric: str, span: float | None, rows: Sequence[ScoreRow], variants: Sequence[Variant]) -> Table:
    by_label: dict[str, dict[tuple[str, int, int], float]] = {}
    for row in rows:
        if row.value is not None:
            by_label.setdefault(row.variant, {})[_cell(row)] = row.value
    by_variant: dict[str, Trained] = {
        variant.name: {
            seed: by_label[label] for label, seed in variant.labels.items() if seed is not None and label in by_label
        }
        for variant in variants
    }
    base = [by_label[label] for v in variants if _is_base(v) for label in v.labels if label in by_label]
    return Table(metric, span, base[0] if base else {}, {name: each for name, each in by_variant.items() if each})


def _cell(row: ScoreRow) -> tuple[str, int, int]:
    """What a value is paired by: prompt, or reference and conditioning scale (whose prompts differ), seed, image."""
    asked = row.prompt if row.reference is None else f"{row.reference} {row.conditioning_scale}"
    return asked, row.seed, row.image_index


def _levels(table: Table) -> Iterator[Finding]:
    """What is measured from the base is 0 for it by definition: there is a mean and nothing to test it against."""
    if metric_named(table.metric).from_base:
        for name, trained in table.variants.items():
            yield MeanScore(table.metric, name, mean_over_seeds(trained))


def _against_base(table: Table) -> Iterator[Finding]:
    differences = [compare_with_base(trained, table.base, table.span) for trained in table.variants.values()]
    for name, difference in zip(table.variants, correct(differences), strict=True):
        if difference:
            yield AgainstBase(table.metric, name, difference)


def _pairs(table: Table) -> Iterator[Finding]:
    pairs = list(itertools.combinations(table.variants, 2))
    differences = [compare(table.variants[one], table.variants[other], table.span) for one, other in pairs]
    for (one, other), difference in zip(pairs, correct(differences), strict=True):
        if difference:
            yield Pair(table.metric, one, other, difference)


def _trends(table: Table, variants: Sequence[Variant]) -> Iterator[Finding]:
    """For each sweep a trend at every learning rate that several ranks share; a tuned one where ranks differ in it."""
    asked = [each for each in _asked_trends(table, variants) if len(each[2]) >= FEWEST_RANKS]
    slopes = correct([rank_trend(by_rank, table.span) for _, _, by_rank in asked])
    for (sweep, rate, by_rank), slope in zip(asked, slopes, strict=True):
        if slope:
            yield RankTrend(table.metric, tuple(by_rank), sweep, rate, slope)


def _asked_trends(
    table: Table, variants: Sequence[Variant]
) -> Iterator[tuple[Sweep, float | None, dict[int, Trained]]]:
    sweeps: dict[Sweep, dict[float, dict[int, Trained]]] = {}
    for variant in sorted(variants, key=lambda v: v.rank or 0):
        if variant.sweep and variant.rank and variant.learning_rate and variant.name in table.variants:
            rates = sweeps.setdefault(variant.sweep, {})
            rates.setdefault(variant.learning_rate, {})[variant.rank] = table.variants[variant.name]
    for sweep, rates in sweeps.items():
        for rate, by_rank in rates.items():
            yield sweep, rate, by_rank
        if len(rates) > 1:
            ranks = sorted({rank for by_rank in rates.values() for rank in by_rank})
            of_rank = {rank: [by_rank[rank] for by_rank in rates.values() if rank in by_rank] for rank in ranks}
            better = metric_named(table.metric).better
            if better:
                yield sweep, None, {rank: best_by_others(each, better) for rank, each in of_rank.items()}


def _over_limits(record: ScoresRecord, variants: Sequence[Variant]) -> Iterator[Finding]:
    """How many pictures are over the limit, which is the metric's ceiling."""
    for metric, anchors in record.anchors.items():
        limit = anchors.ceiling
        if metric_named(metric).limit is None or limit is None:
            continue
        rows = [row for row in record.rows if _is_read(row, metric)]
        over = {v.name: _over(limit, [row.value for row in rows if row.variant in v.labels]) for v in variants}
        base = next((over[v.name] for v in variants if _is_base(v)), None)
        counted = {v.name: over[v.name] for v in variants if not _is_base(v) and over[v.name][1]}
        if counted:
            yield OverLimit(metric, counted, base)


def _over(limit: float, values: Sequence[float | None]) -> tuple[int, int]:
    known = [value for value in values if value is not None]
    return sum(value > limit for value in known), len(known)


def _first(tables: Mapping[str, Sequence[Table]], shown_at: ShownAt) -> Table | None:
    """The first table of the metric that is shown at a place."""
    return next((table for metric in metrics_shown(shown_at) for table in tables.get(metric.name, [])), None)


def _front(y: Table | None, x: Table | None) -> Iterator[Finding]:
    """Pareto's front of the means (over training seeds, of means over pictures)."""
    if y is None or x is None:
        return
    names = [name for name in y.variants if name in x.variants]
    means = {name: (_mean(y.variants[name]), _mean(x.variants[name])) for name in names}
    surpassed = surpassed_by(means)
    if len(names) > 1:
        members = {name: mean for name, mean in means.items() if name not in surpassed}
        yield Front(y.metric, x.metric, members, surpassed)


def _mean(trained: Trained) -> float:
    return statistics.fmean(statistics.fmean(values.values()) for values in trained.values())


def _span(anchors: Anchors) -> float | None:
    ceiling, floor = anchors.ceiling, anchors.floor
    return ceiling - floor if ceiling is not None and floor is not None and ceiling > floor else None


def _is_read(row: ScoreRow, metric: str) -> bool:
    conditioned = row.reference is not None
    return (
        row.metric == metric
        and conditioned == (metric_named(metric).pictures == "references")
        and row.value is not None
    )


def _is_base(variant: Variant) -> bool:
    return all(seed is None for seed in variant.labels.values())
