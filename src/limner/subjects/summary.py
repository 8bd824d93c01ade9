"""What one subject's run says, in figures: read from its lock file, its cells and its scores."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limner.artifacts import PhotoSet, RenderSet, ScoreTable, write_record
from limner.config import Study
from limner.measuring import DECIMALS
from limner.metrics import metric_named
from limner.opening import read_lock
from limner.records import Anchors, ScoreRow, SubjectSummary, SummaryAnchors, SweepRecord, VariantSummary
from limner.reporting.columns import make_columns
from limner.reporting.conclusions import study_variants
from limner.statistics import Sweep, Variant
from limner.statistics.pooling import SubjectScores

SUMMARY = "summary.json"


def summarise(name: str, run: Path) -> SubjectSummary:
    """The summary of a measured run, which is also written into its folder."""
    lock = read_lock(run)
    study, photos, cells = (
        Study.model_validate(lock.study),
        PhotoSet(run / "photos"),
        RenderSet(run / "renders").cells,
    )
    record = ScoreTable(run / "scores.json").record
    variants = study_variants(study, make_columns(study, cells))
    rows = [row for row in record.rows if row.reference is None and _is_pooled(row.metric)]
    summary = SubjectSummary(
        subject=name,
        class_noun=study.subject.class_noun,
        photos=len(photos.files),
        held_out_photos=len(photos.held_out_files),
        pictures=len(cells),
        pictures_a_mean=len(study.render.seeds) * study.render.images_per_seed,
        prompts={prompt.name: prompt.prompt for prompt in study.render.prompts},
        variants=[_variant_record(variant) for variant in variants],
        not_low=sorted(lock.ranks_not_low),
        notices=list(lock.ranks_not_low.values()),
        models={metric: model for metric, model in record.models.items() if _is_pooled(metric)},
        anchors={metric: _anchors(anchors) for metric, anchors in record.anchors.items() if _is_pooled(metric)},
        values=_means(rows, variants),
        copies=_copies(rows, record.anchors, variants),
        machine=lock.machine,
        device=lock.device,
    )
    write_record(run / SUMMARY, summary)
    return summary


def scores_of(summary: SubjectSummary) -> SubjectScores:
    """A summary as statistics reads it; some metrics are of the prompts that name the subject alone."""
    anchors = summary.anchors
    without_subject = {prompt for each in anchors.values() for prompt in (*each.class_prompts, *each.unrelated_prompts)}
    values = {
        metric: _without(by_variant, without_subject)
        if metric_named(metric).pooled_prompts == "subject"
        else by_variant
        for metric, by_variant in summary.values.items()
    }
    return SubjectScores(
        summary.subject,
        values,
        {metric: each.ceiling for metric, each in anchors.items()},
        {metric: each.power for metric, each in anchors.items() if each.power},
        summary.copies,
        summary.pictures_a_mean,
    )


def _without(by_variant: Mapping[str, Any], prompts: set[str]) -> dict[str, Any]:
    return {
        variant: {seed: {p: v for p, v in means.items() if p not in prompts} for seed, means in seeds.items()}
        for variant, seeds in by_variant.items()
    }


def variants_of(summaries: Sequence[SubjectSummary]) -> list[Variant]:
    """The variants of all summaries by name, without where their rows are."""
    rows = {row.name: row for summary in summaries for row in summary.variants}
    return [
        Variant(row.name, {}, row.rank, row.learning_rate, Sweep(**row.sweep.model_dump()) if row.sweep else None)
        for row in rows.values()
    ]


def _variant_record(variant: Variant) -> VariantSummary:
    return VariantSummary(
        name=variant.name,
        rank=variant.rank,
        learning_rate=variant.learning_rate,
        training_seeds=[seed for seed in variant.labels.values() if seed is not None],
        sweep=SweepRecord(**asdict(variant.sweep)) if variant.sweep else None,
    )


def _means(rows: Sequence[ScoreRow], variants: Sequence[Variant]) -> dict[str, Any]:
    """Means over pictures by metric, variant, training seed and prompt."""
    name_and_seed = {
        label: (v.name, "" if seed is None else str(seed)) for v in variants for label, seed in v.labels.items()
    }
    values: dict[str, Any] = {}
    for row in rows:
        variant, seed = name_and_seed[row.variant]
        by_prompt = values.setdefault(row.metric, {}).setdefault(variant, {}).setdefault(seed, {})
        by_prompt.setdefault(row.prompt, []).append(row.value)
    return {
        metric: {
            variant: {s: {p: round(statistics.fmean(v), DECIMALS) for p, v in ps.items()} for s, ps in seeds.items()}
            for variant, seeds in by_variant.items()
        }
        for metric, by_variant in values.items()
    }


def _copies(
    rows: Sequence[ScoreRow], anchors: Mapping[str, Anchors], variants: Sequence[Variant]
) -> dict[str, dict[str, tuple[int, int]]]:
    """By metric and variant: pictures over the limit, and how many there are."""
    name_of = {label: variant.name for variant in variants for label in variant.labels}
    counts: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        limit = anchors[row.metric].ceiling if row.metric in anchors else None
        if metric_named(row.metric).limit and limit is not None and row.value is not None:
            count = counts.setdefault(row.metric, {}).setdefault(name_of[row.variant], [0, 0])
            count[0], count[1] = count[0] + (row.value > limit), count[1] + 1
    return {metric: {name: (over, of) for name, (over, of) in each.items()} for metric, each in counts.items()}


def _anchors(anchors: Anchors) -> SummaryAnchors:
    return SummaryAnchors(
        floor=anchors.floor,
        ceiling=anchors.ceiling,
        photos=anchors.photos,
        power=anchors.power,
        power_others=anchors.power_others,
        class_prompts=anchors.class_prompts,
        unrelated_prompts=anchors.unrelated_prompts,
    )


def _is_pooled(name: str) -> bool:
    """Whether a row's metric is taken together over subjects; conditioned pictures are not."""
    metric = metric_named(name)
    return metric.pictures != "references" and (metric.compared or metric.limit is not None)
