"""What may be concluded from a study, in the languages its report asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from limner.config import Study, VariantRun, expand_variants
from limner.metrics import Code, all_metrics, role_of
from limner.reporting.columns import Column, run_of
from limner.reporting.findings import PictureScores
from limner.reporting.glossary import meanings
from limner.reporting.language import Language
from limner.reporting.phrases import FOLDED, HEADINGS
from limner.reporting.sentences import Speaker
from limner.statistics import Conclusions, Estimated, Finding, Sweep, Variant, conclude
from limner.statistics.findings import (
    AgainstBase,
    AlphaRule,
    FewSeeds,
    Front,
    OverLimit,
    Pair,
    PromptsLeftOut,
    difference_of,
)

MOST_SHOWN = 4  # comparisons with the base, and of pairs, of one metric; the others are folded away
ONLY_TRAINING = 0  # stands for the seed of a LoRA that was made elsewhere, of which there is one
DIFFERENT_IN_A_SWEEP = {"name", "learning_rate", "training_seeds", "validation"}  # beside what a method sweeps over
CODES: dict[str, tuple[Code, ...]] = {"en": ("en",), "ru": ("ru",), "both": ("en", "ru")}
GENERAL = ""  # the chapter of what is not about one score


@dataclass(frozen=True)
class Chapter:
    """What is said of one score, and what is folded away where it is much."""

    title: str
    sentences: list[str]
    folded: list[str]
    folded_heading: str


@dataclass(frozen=True)
class Passage:
    """The conclusions and the glossary in one language."""

    code: Code
    heading: str
    headline: list[str]
    chapters: list[Chapter]
    meanings: list[tuple[str, str]]


def concluded(study: Study, columns: Sequence[Column], scores: PictureScores) -> Conclusions:
    """What the scores carry about the study's variants."""
    return conclude(scores.record, study_variants(study, columns))


def prompts_left_out(conclusions: Conclusions, metric: str | None) -> set[str]:
    """Prompts of which nothing is said by this metric, since its embedding does not know the subject in their style."""
    notes = [each for each in conclusions if isinstance(each, PromptsLeftOut) and each.metric == metric]
    return {prompt for note in notes for prompt in note.shares}


def passages(study: Study, conclusions: Conclusions, scores: PictureScores) -> list[Passage]:
    """What the scores carry, once a language."""
    roles = [role_of(metric) for metric in scores.metrics]
    several = frozenset(role for role in roles if roles.count(role) > 1)
    return [
        Passage(
            code,
            HEADINGS[code],
            speaker.headline(conclusions),
            _chapters(conclusions, speaker),
            _meanings(scores, code),
        )
        for code in CODES[study.report.language]
        for speaker in [Speaker(Language(code), several)]
    ]


def _chapters(conclusions: Conclusions, speaker: Speaker) -> list[Chapter]:
    """The findings by what they are about, in the order in which that is first spoken of."""
    groups: dict[str, list[Finding]] = {}
    for finding in conclusions:
        groups.setdefault(_topic(finding), []).append(finding)
    chapters = [_chapter(speaker, topic, findings) for topic, findings in groups.items()]
    return [chapter for chapter in chapters if chapter.sentences]


def _topic(finding: Finding) -> str:
    if isinstance(finding, Front):
        return f"{finding.y} {finding.x}"
    if isinstance(finding, OverLimit):
        return role_of(finding.metric)
    return GENERAL if isinstance(finding, FewSeeds) else finding.metric


def _chapter(speaker: Speaker, topic: str, findings: Sequence[Finding]) -> Chapter:
    hidden = _folded(findings)
    shown = [each for each in findings if each not in hidden]
    undecided = sum(not _is_shown(each) for each in hidden)
    code = speaker.language.code
    return Chapter(
        _title(speaker, topic, findings[0]),
        speaker.sentences(Conclusions(tuple(shown))),
        speaker.sentences(Conclusions(tuple(hidden))),
        FOLDED[code].format(count=len(hidden), undecided=undecided),
    )


def _title(speaker: Speaker, topic: str, first: Finding) -> str:
    if isinstance(first, Front):
        return speaker.title_together(first.y, first.x)
    return speaker.title(topic) if topic else ""


def _folded(findings: Sequence[Finding]) -> list[Finding]:
    """Comparisons that would bury the rest: of those with the base and of pairs all but the largest that are shown."""
    hidden: list[Finding] = []
    for kind in (AgainstBase, Pair):
        tested = [each for each in findings if isinstance(each, kind) and isinstance(each.difference, Estimated)]
        ranked = sorted(tested, key=lambda each: (not _is_shown(each), -abs(each.difference.difference)))
        kept = (
            [each for each in ranked if kind is AgainstBase or _is_shown(each)] if len(ranked) > MOST_SHOWN else ranked
        )
        hidden += [each for each in ranked if each not in kept[:MOST_SHOWN]]
    return [each for each in findings if each in hidden]


def _is_shown(finding: Finding) -> bool:
    difference = difference_of(finding)
    return isinstance(difference, Estimated) and difference.is_shown


def study_variants(study: Study, columns: Sequence[Column]) -> list[Variant]:
    """The report's columns as statistics sees them: each strength of a LoRA is a variant."""
    runs = {run.label: run for run in expand_variants(study.variants)}
    return [_variant(column, {label: run_of(label, runs) for label in column.labels}) for column in columns]


def _variant(column: Column, runs: dict[str, VariantRun | None]) -> Variant:
    once = None if column.family is None else ONLY_TRAINING  # the base has no training seed, an imported LoRA one
    labels = {label: run.training_seed if run else once for label, run in runs.items()}
    run = next((each for each in runs.values() if each), None)
    if run is None or run.rank is None:
        return Variant(column.name, labels)
    others = run.variant.model_dump_json(exclude=DIFFERENT_IN_A_SWEEP | run.method.own_settings)
    rule, alpha = run.method.scaling(run)
    sweep = Sweep(others, cast(AlphaRule, rule), alpha, column.strength)
    return Variant(column.name, labels, run.rank, run.variant.learning_rate, sweep)


def _meanings(scores: PictureScores, code: Code) -> list[tuple[str, str]]:
    """What each score is, for those that are named."""
    return list(meanings([metric for metric in all_metrics() if scores.first(metric.name)], code))
