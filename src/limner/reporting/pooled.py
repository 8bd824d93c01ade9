"""Many subjects in one page of Markdown: figures and the sentences they carry, no picture of anyone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from limner.reporting.findings import LIKENESS, PROMPT_FIDELITY, model_of, role_of
from limner.reporting.language import Language, listed
from limner.reporting.sentences import LEADING, Speaker
from limner.statistics import Conclusions, Difference, Estimated, Finding, Variant
from limner.statistics.conclusions import DRIFT
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
HOLLOW = "Hollow marks: ranks that are no longer low for every layer. Bands: what has no rank."

OTHER_SCORES, UNDECIDED = "What is shown of other scores", "Pairs between which no difference could be shown"


@dataclass(frozen=True)
class Pooled:
    """The scores of all subjects that were measured, and what is to be told beside them."""

    title: str
    subjects: Sequence[SubjectScores]
    variants: Sequence[Variant]
    summaries: Sequence[Mapping[str, Any]]
    faults: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def not_low(self) -> list[str]:
        """Variants whose rank is no longer low for every layer."""
        return sorted({name for summary in self.summaries for name in summary["not_low"]})

    @cached_property
    def conclusions(self) -> Conclusions:
        """What the subjects carry together."""
        return pool(self.subjects, self.variants, self.not_low)

    @cached_property
    def tables(self) -> dict[str, PooledTable]:
        """Each compared metric's means."""
        found = {metric: pooled_table(self.subjects, metric)[1] for metric in metrics_of(self.subjects)}
        return {metric: table for metric, table in found.items() if table}

    @property
    def trained(self) -> list[str]:
        """Names of all variants but the base."""
        return [variant.name for variant in self.variants if variant.name != BASE]

    def first(self, role: str) -> PooledTable | None:
        """The table of a role's first metric."""
        return next((table for metric, table in self.tables.items() if role_of(metric) == role), None)

    def gain(self, table: PooledTable, variant: str) -> Difference | None:
        """A variant less the base, over subjects."""
        ours, base = table.variants.get(variant, {}), table.variants.get(BASE, {})
        return compare_subjects(ours, base, table.span, table.weight)


def markdown_of(pooled: Pooled, chart: str = "") -> str:
    """The page; `chart` is the file of the chart beside it."""
    parts = [f"# {pooled.title}: {len(pooled.subjects)} subjects together"]
    parts += [*_faults(pooled)]
    if pooled.subjects:
        parts += [_standfirst(pooled), *_conclusions(pooled), *_variants(pooled)]
        parts += [f"![Gain in likeness over the rank]({chart})", HOLLOW] if chart else []
        parts += [*_prompts(pooled), *_subjects(pooled), *_scatter(pooled), *_notes(pooled)]
    return "\n\n".join(parts) + "\n"


def _standfirst(pooled: Pooled) -> str:
    first = pooled.summaries[0]
    photos = [summary["photos"] for summary in pooled.summaries]
    held = {summary["held_out_photos"] for summary in pooled.summaries}
    seeds = sorted({seed for row in first["variants"] for seed in row["training_seeds"]})
    said = [
        f"{len(pooled.subjects)} subjects ({listed([s.name for s in pooled.subjects])}) with {min(photos)} to "
        f"{max(photos)} photos each",
        f"of which {min(held)} were held out from training" if held != {0} else "none of which was held out",
    ]
    pictures = sum(summary["pictures"] for summary in pooled.summaries)
    models = "; ".join(f"{metric}: {model['name']}" for metric, model in _models(pooled).items())
    return (
        f"{', '.join(said)}. Training seeds {listed([str(seed) for seed in seeds])}; {len(first['prompts'])} prompts; "
        f"{pictures:,} pictures. Intervals are over subjects: each subject is one value, its training seeds averaged. "
        "Likeness and prompt fidelity are of prompts that name the subject, drift of the others. "
        f"Models: {models}."
    )


def _models(pooled: Pooled) -> dict[str, Any]:
    models = {metric: model for summary in pooled.summaries for metric, model in summary["models"].items()}
    return {metric: model for metric, model in models.items() if role_of(metric) in (LIKENESS, PROMPT_FIDELITY)}


def _conclusions(pooled: Pooled) -> Iterator[str]:
    several = [role_of(metric) for metric in (*pooled.tables, *_copying(pooled))]
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
    """Under which fold a finding stands; "" where it is told at once."""
    if isinstance(finding, Pair) and not (isinstance(finding.difference, Estimated) and finding.difference.is_shown):
        return UNDECIDED
    role = role_of(getattr(finding, "metric", LIKENESS))
    return "" if role in LEADING else OTHER_SCORES


def _variants(pooled: Pooled) -> Iterator[str]:
    likeness, fidelity, drift = (pooled.first(role) for role in (LIKENESS, PROMPT_FIDELITY, DRIFT))
    copies = _copied(pooled)
    rows = [
        [
            variant,
            _gain(pooled, likeness, variant),
            _share(pooled, likeness, variant),
            _gain(pooled, fidelity, variant),
            _mean(pooled, drift, variant),
            copies.get(variant, NONE),
        ]
        for variant in pooled.trained
    ]
    yield "## Variants"
    heads = ["variant", "likeness less the base's", "share of the span", "prompt fidelity less the base's", "drift"]
    seen = _copying(pooled)
    yield markdown_table([*heads, f"copies ({model_of(seen[0])})" if len(seen) > 1 else "copies"], rows)
    yield (
        "In brackets 95% intervals over subjects, each by itself (the sentences above are corrected for each other). "
        "Span: from the base's pictures to real photos of the subject against each other. Copies: pictures nearer to a "
        "training photo than any two photos are to each other."
    )


def _gain(pooled: Pooled, table: PooledTable | None, variant: str) -> str:
    return _told(pooled.gain(table, variant), signed=True) if table else NONE


def _share(pooled: Pooled, table: PooledTable | None, variant: str) -> str:
    found = pooled.gain(table, variant) if table else None
    return NONE if found is None or found.span_share is None else EN.percent(found.span_share)


def _mean(pooled: Pooled, table: PooledTable | None, variant: str) -> str:
    if table is None or variant not in table.variants:
        return NONE
    return _told(spread(pooled.subjects, table, variant).overall)


def _told(found: Difference | None, *, signed: bool = False) -> str:
    """A mean with its interval where it has one."""
    if found is None:
        return NONE
    mean = EN.number(found.difference, signed=signed)
    if not isinstance(found, Estimated):
        return mean
    low, high = (EN.number(end, signed=signed) for end in found.interval)
    return f"{mean} ({low} to {high})"


def _copying(pooled: Pooled) -> list[str]:
    """Metrics of copying, one for each model that sees it."""
    return list(dict.fromkeys(metric for subject in pooled.subjects for metric in subject.copies))


def _copied(pooled: Pooled) -> dict[str, str]:
    counts: dict[str, list[int]] = {}
    for subject in pooled.subjects:
        for variant, (over, of) in next(iter(subject.copies.values()), {}).items():
            count = counts.setdefault(variant, [0, 0])
            count[0], count[1] = count[0] + over, count[1] + of
    return {variant: f"{over:,} of {of:,} ({EN.percent(over / of, 1)})" for variant, (over, of) in counts.items() if of}


def _prompts(pooled: Pooled) -> Iterator[str]:
    """Likeness prompt by prompt, weak ones too, with the embedding's power under each."""
    for metric in [metric for metric in metrics_of(pooled.subjects) if role_of(metric) == LIKENESS]:
        power, texts = pooled_power(pooled.subjects, metric), pooled.summaries[0]["prompts"]
        rows = [
            [f"{prompt}: “{texts.get(prompt, '')}”", *_power(share), *_gains_under(pooled, metric, prompt)]
            for prompt, share in power.items()
        ]
        yield f"## {metric} prompt by prompt"
        yield markdown_table(["prompt", "power", *pooled.trained], rows)
        yield (
            f"Gain over the base under one prompt, over subjects. Power: how often a real photo, put through the "
            f"prompt's style, is found among eight by this embedding{_beside(pooled, metric)}; below 60% nothing above "
            "counts the prompt."
        )


def _beside(pooled: Pooled, metric: str) -> str:
    real = [summary["anchors"].get(metric, {}).get("power_others", {}).get("real") for summary in pooled.summaries]
    return " (beside photos of other subjects of its class)" if all(real) else " (beside renders: an upper bound)"


def _power(share: float | None) -> list[str]:
    return [NONE if share is None else EN.percent(share)]


def _gains_under(pooled: Pooled, metric: str, prompt: str) -> Iterator[str]:
    others = {other for subject in pooled.subjects for other in subject.power.get(metric, {}) if other != prompt}
    sides: dict[str, dict[int, Any]] = {}
    for place, subject in enumerate(pooled.subjects):
        for variant, seeds in subject.values.get(metric, {}).items():
            sides.setdefault(variant, {})[place] = over_training_seeds(seeds, others)
    for variant in pooled.trained:
        yield _told(compare_subjects(sides.get(variant, {}), sides.get(BASE, {})), signed=True)


def _subjects(pooled: Pooled) -> Iterator[str]:
    """What each subject says by itself: its anchors and how far each variant came between them."""
    table = pooled.first(LIKENESS)
    if table is None:
        return
    rows = []
    for place, subject in enumerate(pooled.subjects):
        base, top = table.variants.get(BASE, {}).get(place), subject.ceilings.get(table.metric)
        if base is None or top is None:
            continue
        floor = statistics.fmean(base.values())
        means = [table.variants.get(variant, {}).get(place) for variant in pooled.trained]
        shares = [_share_of(statistics.fmean(own.values()), floor, top) if own else NONE for own in means]
        rows.append([subject.name, str(pooled.summaries[place]["photos"]), EN.number(floor), EN.number(top), *shares])
    yield "## Subject by subject"
    yield markdown_table(["subject", "photos", "base", "ceiling", *pooled.trained], rows)
    yield f"{table.metric}: where each mean lies between the base's (0%) and real photos' (100%)."


def _share_of(value: float, floor: float, top: float) -> str:
    return EN.percent((value - floor) / (top - floor)) if top > floor else NONE


def _scatter(pooled: Pooled) -> Iterator[str]:
    rows = []
    for metric, table in pooled.tables.items():
        for variant in table.variants:
            found = spread(pooled.subjects, table, variant)
            deviations = [NONE if d is None else EN.number(d) for d in (found.between_subjects, found.within_subjects)]
            rows.append([metric, variant, _told(found.overall), *deviations])
    yield "## Means and what they scatter by"
    yield markdown_table(
        ["metric", "variant", "mean over subjects", "between subjects", "between training seeds"], rows
    )
    yield "Standard deviations between the subjects' means, and between the training seeds of one subject (pooled)."


def _notes(pooled: Pooled) -> Iterator[str]:
    notes = list(dict.fromkeys(note for summary in pooled.summaries for note in summary["notices"]))
    machines = list(dict.fromkeys(str(summary["device"]) for summary in pooled.summaries))
    yield "## Notes"
    yield "\n".join(f"- {note}" for note in [*notes, f"Made on device {listed(machines)}."])


def _faults(pooled: Pooled) -> Iterator[str]:
    if pooled.faults:
        yield "Not measured, and so not in any figure here:"
        yield "\n".join(f"- {name}: {fault}" for name, fault in pooled.faults.items())


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
