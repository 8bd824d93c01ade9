"""Many subjects in one page of Markdown: figures and the sentences they carry, no picture of anyone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from limner.metrics import Metric, metric_named, metrics_shown, role_of
from limner.records import ModelRecord, SubjectSummary
from limner.reporting.findings import model_of
from limner.reporting.language import Language, listed
from limner.reporting.sentences import Speaker
from limner.statistics import Conclusions, Estimated, Finding, ScoreDifference, Variant
from limner.statistics.findings import Pair
from limner.statistics.pooling import (
    BASE,
    FEWEST_SUBJECTS,
    PooledTable,
    SubjectScores,
    compare_subjects,
    metrics_of,
    over_training_seeds,
    pool,
    pooled_power,
    pooled_table,
    spread,
)

EN = Language("en")
NONE = "–"
HOLLOW = "Hollow marks: ranks that are no longer low for every layer. Bands: variants without a rank."

OTHER_SCORES, UNDECIDED = "What is shown of other scores", "Pairs between which no difference could be shown"


@dataclass(frozen=True)
class Pooled:
    """The scores of all subjects that were measured, and what is said with them."""

    title: str
    subjects: Sequence[SubjectScores]
    variants: Sequence[Variant]
    summaries: Sequence[SubjectSummary]
    faults: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def not_low(self) -> list[str]:
        """Variants whose rank is no longer low for every layer."""
        return sorted({name for summary in self.summaries for name in summary.not_low})

    @cached_property
    def conclusions(self) -> Conclusions:
        """What the subjects carry together."""
        return pool(self.subjects, self.variants, self.not_low)

    @cached_property
    def tables(self) -> dict[str, PooledTable]:
        """Each compared metric's means."""
        by_metric = {metric: pooled_table(self.subjects, metric)[1] for metric in metrics_of(self.subjects)}
        return {metric: table for metric, table in by_metric.items() if table}

    @property
    def trained(self) -> list[str]:
        """Names of all variants but the base."""
        return [variant.name for variant in self.variants if variant.name != BASE]

    def first(self, name: str) -> PooledTable | None:
        """The table of a metric by the first model that measured it."""
        return next((table for metric, table in self.tables.items() if role_of(metric) == name), None)

    @property
    def ranked(self) -> PooledTable | None:
        """The table of the metric that is drawn over ranks."""
        return next((table for metric in metrics_shown("rank") if (table := self.first(metric.name))), None)

    def gain(self, table: PooledTable, variant: str) -> ScoreDifference | None:
        """A variant less the base, over subjects."""
        ours, base = table.variants.get(variant, {}), table.variants.get(BASE, {})
        return compare_subjects(ours, base, table.span, table.weight)


def markdown_of(pooled: Pooled, chart: str = "") -> str:
    """The page; `chart` is the file of the chart beside it."""
    parts = [f"# {pooled.title}: {len(pooled.subjects)} subjects together"]
    parts += [*_faults(pooled)]
    if pooled.subjects:
        parts += [_standfirst(pooled), *_conclusions(pooled), *_variants(pooled)]
        parts += (
            [f"![Gain in {metrics_shown('rank')[0].words['en'].noun} over the rank]({chart})", HOLLOW] if chart else []
        )
        parts += [*_prompts(pooled), *_subjects(pooled), *_scatter(pooled), *_notes(pooled)]
    return "\n\n".join(parts) + "\n"


def _standfirst(pooled: Pooled) -> str:
    first = pooled.summaries[0]
    photos = [summary.photos for summary in pooled.summaries]
    held = {summary.held_out_photos for summary in pooled.summaries}
    seeds = sorted({seed for row in first.variants for seed in row.training_seeds})
    said = [
        f"{len(pooled.subjects)} subjects ({listed([s.name for s in pooled.subjects])}) with {min(photos)} to "
        f"{max(photos)} photos each",
        f"of which {min(held)} were held out from training" if held != {0} else "none of which was held out",
    ]
    pictures = sum(summary.pictures for summary in pooled.summaries)
    models = "; ".join(f"{metric}: {model.name}" for metric, model in _models(pooled).items())
    return (
        f"{', '.join(said)}. Training seeds {listed([str(seed) for seed in seeds])}; {len(first.prompts)} prompts; "
        f"{pictures:,} pictures. Intervals are over subjects: each subject is one value, its training seeds averaged. "
        f"{_of_prompts()} Models: {models}."
    )


def _of_prompts() -> str:
    """Of which prompts the pooled metrics are."""
    shown = metrics_shown("pooled")
    of_subject = listed([metric.words["en"].noun for metric in shown if metric.pooled_prompts == "subject"])
    of_others = listed([metric.words["en"].noun for metric in shown if metric.from_base])
    return f"{of_subject[:1].upper()}{of_subject[1:]} are of prompts that name the subject, {of_others} of the others."


def _models(pooled: Pooled) -> dict[str, ModelRecord]:
    models = {metric: model for summary in pooled.summaries for metric, model in summary.models.items()}
    return {metric: model for metric, model in models.items() if metric_named(metric).required}


def _conclusions(pooled: Pooled) -> Iterator[str]:
    several = [role_of(metric) for metric in (*pooled.tables, *_with_limits(pooled))]
    speaker = Speaker(EN, frozenset(role for role in several if several.count(role) > 1), "subject")
    parts: dict[str, list[Finding]] = {}
    for finding in pooled.conclusions:
        parts.setdefault(_part(finding), []).append(finding)
    yield "## Conclusions"
    if len(pooled.subjects) < FEWEST_SUBJECTS:
        yield f"Fewer than {FEWEST_SUBJECTS} subjects: everything here is descriptive only."
    for part in ("", OTHER_SCORES, UNDECIDED):
        if said := "\n".join(f"- {each}" for each in speaker.sentences(Conclusions(tuple(parts.get(part, []))))):
            yield f"<details><summary>{part}</summary>\n\n{said}\n\n</details>" if part else said


def _part(finding: Finding) -> str:
    """Under which fold a finding stands; "" where it is said at once."""
    if isinstance(finding, Pair) and not (isinstance(finding.difference, Estimated) and finding.difference.is_shown):
        return UNDECIDED
    metric = getattr(finding, "metric", "")
    return "" if not metric or metric_named(metric).leads else OTHER_SCORES


def _variants(pooled: Pooled) -> Iterator[str]:
    measured = [metric for metric in metrics_shown("pooled") if metric.compared]
    columns = [column for metric in measured for column in _columns(pooled, metric)]
    copies, with_limits = _counts(pooled), _with_limits(pooled)
    rows = [[variant, *(cell(variant) for _, cell in columns), copies.get(variant, NONE)] for variant in pooled.trained]
    yield "## Variants"
    heads = ["variant", *(head for head, _ in columns)]
    heads += [f"copies ({model_of(with_limits[0])})" if len(with_limits) > 1 else "copies"]
    yield markdown_table(heads, rows)
    yield (
        "In brackets 95% intervals over subjects, each by itself (the sentences above are corrected for each other). "
        "Span: from the base's pictures to real photos of the subject against each other. Copies: pictures nearer to a "
        "training photo than any two photos are to each other."
    )


def _columns(pooled: Pooled, metric: Metric) -> Iterator[tuple[str, Callable[[str], str]]]:
    """A metric's columns: what stands over them, and what stands in them for a variant."""
    table, noun = pooled.first(metric.name), metric.words["en"].noun
    if metric.from_base:
        yield noun, lambda variant: _mean(pooled, table, variant)
        return
    yield f"{noun} less the base's", lambda variant: _gain(pooled, table, variant)
    if metric.has_gain:
        yield "share of the span", lambda variant: _share(pooled, table, variant)


def _gain(pooled: Pooled, table: PooledTable | None, variant: str) -> str:
    return _with_interval(pooled.gain(table, variant), signed=True) if table else NONE


def _share(pooled: Pooled, table: PooledTable | None, variant: str) -> str:
    difference = pooled.gain(table, variant) if table else None
    return NONE if difference is None or difference.span_share is None else EN.percent(difference.span_share)


def _mean(pooled: Pooled, table: PooledTable | None, variant: str) -> str:
    if table is None or variant not in table.variants:
        return NONE
    return _with_interval(spread(pooled.subjects, table, variant).overall)


def _with_interval(difference: ScoreDifference | None, *, signed: bool = False) -> str:
    """A mean with its interval where it has one."""
    if difference is None:
        return NONE
    mean = EN.number(difference.difference, signed=signed)
    if not isinstance(difference, Estimated):
        return mean
    low, high = (EN.number(end, signed=signed) for end in difference.interval)
    return f"{mean} ({low} to {high})"


def _with_limits(pooled: Pooled) -> list[str]:
    """Metrics whose pictures over a limit are counted, one for each model."""
    return list(dict.fromkeys(metric for subject in pooled.subjects for metric in subject.copies))


def _counts(pooled: Pooled) -> dict[str, str]:
    counts: dict[str, list[int]] = {}
    for subject in pooled.subjects:
        for variant, (over, of) in next(iter(subject.copies.values()), {}).items():
            count = counts.setdefault(variant, [0, 0])
            count[0], count[1] = count[0] + over, count[1] + of
    return {variant: f"{over:,} of {of:,} ({EN.percent(over / of, 1)})" for variant, (over, of) in counts.items() if of}


def _prompts(pooled: Pooled) -> Iterator[str]:
    """Metrics that leave prompts out, prompt by prompt, weak ones too, with the embedding's power under each."""
    for metric in [metric for metric in metrics_of(pooled.subjects) if metric_named(metric).needs_ceiling]:
        power, texts = pooled_power(pooled.subjects, metric), pooled.summaries[0].prompts
        rows = [
            [f"{prompt}: “{texts.get(prompt, '')}”", *_power(share), *_gains_under(pooled, metric, prompt)]
            for prompt, share in power.items()
        ]
        yield f"## {metric} prompt by prompt"
        yield markdown_table(["prompt", "power", *pooled.trained], rows)
        yield (
            f"Gain over the base under one prompt, over subjects. Power: how often a real photo, put through the "
            f"prompt's style, is found among eight by this embedding{_compared_with(pooled, metric)}; below 60% "
            "nothing above counts the prompt."
        )


def _compared_with(pooled: Pooled, metric: str) -> str:
    anchors = [summary.anchors.get(metric) for summary in pooled.summaries]
    real = [each is not None and each.power_others is not None and each.power_others.real for each in anchors]
    return " (beside photos of other subjects of its class)" if all(real) else " (beside renders: an upper bound)"


def _power(share: float | None) -> list[str]:
    return [NONE if share is None else EN.percent(share)]


def _gains_under(pooled: Pooled, metric: str, prompt: str) -> Iterator[str]:
    others = {other for subject in pooled.subjects for other in subject.power.get(metric, {}) if other != prompt}
    sides: dict[str, dict[int, Any]] = {}
    for index, subject in enumerate(pooled.subjects):
        for variant, seeds in subject.values.get(metric, {}).items():
            sides.setdefault(variant, {})[index] = over_training_seeds(seeds, others)
    for variant in pooled.trained:
        yield _with_interval(compare_subjects(sides.get(variant, {}), sides.get(BASE, {})), signed=True)


def _subjects(pooled: Pooled) -> Iterator[str]:
    """What each subject says by itself: its anchors and how far each variant came between them."""
    table = pooled.ranked
    if table is None:
        return
    rows = []
    for index, subject in enumerate(pooled.subjects):
        base, top = table.variants.get(BASE, {}).get(index), subject.ceilings.get(table.metric)
        if base is None or top is None:
            continue
        floor = statistics.fmean(base.values())
        means = [table.variants.get(variant, {}).get(index) for variant in pooled.trained]
        shares = [
            _share_of(statistics.fmean(subject_means.values()), floor, top) if subject_means else NONE
            for subject_means in means
        ]
        rows.append([subject.name, str(pooled.summaries[index].photos), EN.number(floor), EN.number(top), *shares])
    yield "## Subject by subject"
    yield markdown_table(["subject", "photos", "base", "ceiling", *pooled.trained], rows)
    yield f"{table.metric}: where each mean lies between the base's mean (0%) and that of real photos (100%)."


def _share_of(value: float, floor: float, top: float) -> str:
    return EN.percent((value - floor) / (top - floor)) if top > floor else NONE


def _scatter(pooled: Pooled) -> Iterator[str]:
    rows = []
    for metric, table in pooled.tables.items():
        for variant in table.variants:
            scattered = spread(pooled.subjects, table, variant)
            deviations = [
                NONE if d is None else EN.number(d) for d in (scattered.between_subjects, scattered.within_subjects)
            ]
            rows.append([metric, variant, _with_interval(scattered.overall), *deviations])
    yield "## Means and their spread"
    yield markdown_table(
        ["metric", "variant", "mean over subjects", "between subjects", "between training seeds"], rows
    )
    yield "Standard deviations between the subjects' means, and between the training seeds of one subject (pooled)."


def _notes(pooled: Pooled) -> Iterator[str]:
    notes = list(dict.fromkeys(note for summary in pooled.summaries for note in summary.notices))
    machines = list(dict.fromkeys(str(summary.device) for summary in pooled.summaries))
    yield "## Notes"
    yield "\n".join(f"- {note}" for note in [*notes, f"Made on device {listed(machines)}."])


def _faults(pooled: Pooled) -> Iterator[str]:
    if pooled.faults:
        yield "Not measured, so not in any figure here:"
        yield "\n".join(f"- {name}: {fault}" for name, fault in pooled.faults.items())


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
