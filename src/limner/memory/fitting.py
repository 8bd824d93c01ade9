"""Settings chosen so that a study fits a card: what changes no result first, and only as much as is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from limner.config import Study, expand_variants, with_settings
from limner.memory.calibration import GIB, needed_gib, usable
from limner.memory.prediction import ENCODING, Parts, StagePeak, largest
from limner.methods import method_of

Changes = dict[str, Any]  # by the settings' dotted paths


@dataclass(frozen=True)
class Fitted:
    """A study and what was changed for it to fit."""

    study: Study
    changes: Changes


def fit(study: Study, parts: Parts, budget_gib: float, origins: Mapping[str, str]) -> Fitted:
    """Change what the study's author left open until every stage fits a card of `budget_gib`.

    `origins` are `setting_origins`: what is of origin "study" is never changed.
    """
    changes, given_up = {}, set()
    while True:
        fitted = with_settings(study, changes)
        over = [p for p in largest(fitted, parts) if p.bytes > usable(budget_gib) and p.name not in given_up]
        if not over:
            return Fitted(fitted, changes)
        open_ = (step for step in _measures(fitted, over[0]) if not any(origins.get(p) == "study" for p in step))
        step = next(open_, None)
        if step is None:
            given_up.add(over[0].name)
        else:
            changes |= step


def _measures(study: Study, peak: StagePeak) -> Iterator[Changes]:
    """What would make a stage smaller and is not done yet, the mildest first."""
    if not study.memory.offload:
        yield {"memory.offload": True}
    if peak.stage == "train" and ENCODING not in peak.parts:
        yield from _training_measures(study, peak.label)
    if peak.at_once > 1:
        table = "class_images" if peak.stage == "class-images" else "render"
        yield {f"{table}.batch_size": peak.at_once // 2}
    if study.memory.vae_batch_size > 1:
        yield {"memory.vae_batch_size": 1}


def _training_measures(study: Study, label: str) -> Iterator[Changes]:
    variant = next(run.variant for run in expand_variants(study.variants) if run.label == label)
    at = f"variants.{study.variants.index(variant)}"
    if not variant.gradient_checkpointing:
        yield {f"{at}.gradient_checkpointing": True}
    if variant.batch_size > 1:  # the same examples in more and smaller parts
        smaller = next(size for size in range(variant.batch_size // 2, 0, -1) if variant.batch_size % size == 0)
        times = variant.gradient_accumulation_steps * variant.batch_size // smaller
        yield {f"{at}.batch_size": smaller, f"{at}.gradient_accumulation_steps": times}
    for saver in method_of(variant).memory_savers(variant):
        yield {f"{at}.{name}": value for name, value in saver.items()}


def faults(study: Study, parts: Parts, budget_gib: float) -> list[str]:
    """One line for each stage that a card of `budget_gib` has no room for, with the settings that would fit."""
    return [
        f"{peak.name} needs about {peak.gib:.1f} GiB of GPU memory and a card of {budget_gib:g} GiB has "
        f"{usable(budget_gib) / GIB:.1f} for it: {'; '.join(_remedies(study, parts, peak, budget_gib))}"
        for peak in largest(study, parts)
        if peak.bytes > usable(budget_gib)
    ]


def _remedies(study: Study, parts: Parts, peak: StagePeak, budget_gib: float) -> Iterator[str]:
    """Settings of the study's own that stand in the way, then a smaller training, then a larger card."""
    freed = _changed_until_fit(study, parts, peak, budget_gib)
    if freed is not None:
        yield "it fits with " + ", ".join(as_setting(path, value) for path, value in freed.items())
    elif peak.stage == "train":
        yield from _smaller_trainings(study, parts, peak, budget_gib)
    yield f"as it is it needs a card of {needed_gib(peak.bytes)} GiB"


def _changed_until_fit(study: Study, parts: Parts, peak: StagePeak, budget_gib: float) -> Changes | None:
    """What of the study's own settings had to change; None where even all of it is not enough."""
    changes: Changes = {}
    while True:
        now = _peak_of(with_settings(study, changes), parts, peak)
        if now.bytes <= usable(budget_gib):
            return changes
        step = next(_measures(with_settings(study, changes), peak), None)
        if step is None:
            return None
        changes |= step


def _smaller_trainings(study: Study, parts: Parts, peak: StagePeak, budget_gib: float) -> Iterator[str]:
    """Trainings of less that would fit."""
    variant = next(run.variant for run in expand_variants(study.variants) if run.label == peak.label)
    at = f"variants.{study.variants.index(variant)}"
    for smaller, said in method_of(variant).smaller_trainings(variant):
        changes = {f"{at}.{name}": value for name, value in (smaller or {}).items()}
        fits = smaller is None or _changed_until_fit(with_settings(study, changes), parts, peak, budget_gib) is not None
        if fits:
            yield said


def _peak_of(study: Study, parts: Parts, like: StagePeak) -> StagePeak:
    return next(peak for peak in largest(study, parts) if peak.name == like.name)


def as_setting(path: str, value: Any) -> str:
    """A setting as the study file writes it, variants counted from 1: `variants.1.optimizer.name = "adamw8bit"`."""
    setting = ".".join(str(int(part) + 1) if part.isdecimal() else part for part in path.split("."))
    return f"{setting} = " + (f'"{value}"' if isinstance(value, str) else str(value).lower())
