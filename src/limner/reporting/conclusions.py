"""What may be concluded from a study, in the languages its report asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.config import LoraVariant, Study, VariantRun, expand_variants
from limner.reporting.columns import Column, run_of
from limner.reporting.findings import LIKENESS, Scores, role_of
from limner.reporting.language import Code, Language
from limner.reporting.phrases import GLOSSARY, HEADINGS, UNDECIDED
from limner.reporting.sentences import Speaker
from limner.statistics import Conclusions, Difference, Estimated, Sweep, Variant, conclude
from limner.statistics.findings import Pair

MOST_UNDECIDED = 3  # pairs that stand among the other sentences
OWN_IN_A_SWEEP = {"name", "rank", "alpha", "alpha_rule", "learning_rate", "training_seeds", "validation"}
CODES: dict[str, tuple[Code, ...]] = {"en": ("en",), "ru": ("ru",), "both": ("en", "ru")}


@dataclass(frozen=True)
class Passage:
    """The conclusions and the glossary in one language."""

    code: Code
    heading: str
    headline: list[str]
    sentences: list[str]
    undecided: list[str]  # pairs of variants between which no difference could be shown, where they are many
    undecided_heading: str
    meanings: list[tuple[str, str]]


def passages(study: Study, columns: Sequence[Column], scores: Scores) -> list[Passage]:
    """What the scores carry, once a language."""
    found = conclude(scores.record, study_variants(study, columns))
    told, undecided = _folded(found)
    roles = [role_of(metric) for metric in scores.metrics]
    several = frozenset(role for role in roles if roles.count(role) > 1)
    return [
        Passage(
            code,
            HEADINGS[code],
            speaker.headline(found),
            speaker.sentences(told),
            speaker.sentences(undecided),
            UNDECIDED[code].format(count=len(tuple(undecided))),
            _meanings(scores, code),
        )
        for code in CODES[study.report.language]
        for speaker in [Speaker(Language(code), several)]
    ]


def _folded(found: Conclusions) -> tuple[Conclusions, Conclusions]:
    """What is told at once, and pairs without a difference that could be shown, if they would bury the rest."""
    undecided = [each for each in found if isinstance(each, Pair) and _is_undecided(each.difference)]
    if len(undecided) <= MOST_UNDECIDED:
        return found, Conclusions(())
    return Conclusions(tuple(each for each in found if each not in undecided)), Conclusions(tuple(undecided))


def _is_undecided(difference: Difference) -> bool:
    return isinstance(difference, Estimated) and not difference.is_shown


def study_variants(study: Study, columns: Sequence[Column]) -> list[Variant]:
    """The report's columns as statistics sees them: each strength of a LoRA is a variant of its own."""
    runs = {run.label: run for run in expand_variants(study.variants)}
    return [_variant(column, {label: run_of(label, runs) for label in column.labels}) for column in columns]


def _variant(column: Column, runs: dict[str, VariantRun | None]) -> Variant:
    labels = {label: run.training_seed if run else None for label, run in runs.items()}
    run = next((each for each in runs.values() if each), None)
    if run is None or run.rank is None or not isinstance(run.variant, LoraVariant):
        return Variant(column.name, labels)
    others = run.variant.model_dump_json(exclude=OWN_IN_A_SWEEP)
    sweep = _sweep(f"strength {column.strength:g} {others}", run.variant, run.rank)
    return Variant(column.name, labels, run.rank, run.variant.learning_rate, sweep)


def _sweep(others: str, variant: LoraVariant, rank: int) -> Sweep:
    alpha = variant.alpha_for(rank)
    if variant.alpha_rule == "sqrt":
        return Sweep(others, "alpha/sqrt(rank)", variant.alpha)
    follows = variant.alpha is None or (len(variant.rank) == 1 and alpha == rank)
    return Sweep(others, "alpha = rank") if follows else Sweep(others, "alpha fixed", alpha)


def _meanings(scores: Scores, code: Code) -> list[tuple[str, str]]:
    """What each score is, for those that are named."""
    named = [role for role in GLOSSARY if scores.metric(role)]
    if scores.metric(LIKENESS):
        named[1:1] = ["gain", "share"]
    return [GLOSSARY[role][code] for role in [*named, "training seed"] if named]
