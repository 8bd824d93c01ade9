"""The report's sentences. Each says what was measured, on how many pictures, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from limner.artifacts import PhotoSet
from limner.config import Study, expand_variants
from limner.metrics import metric_named
from limner.records import Anchors
from limner.reporting.findings import PictureScores, signless
from limner.reporting.language import counted
from limner.reporting.plates import Plate
from limner.statistics import FEWEST_SEEDS


def training_seeds(study: Study) -> int:
    """The fewest training seeds any variant was trained with."""
    return min((len(variant.training_seeds) for variant in study.variants), default=1)


def standfirst(study: Study, photo_set: PhotoSet, pictures: int) -> str:
    """What was done, in one line."""
    variants = len({run.label.partition("@")[0] for run in expand_variants(study.variants)})
    made_elsewhere = f"{counted(len(study.adapters), 'LoRA')} made elsewhere, " if study.adapters else ""
    ways = f"{counted(variants, 'way')} of teaching it to a Stable Diffusion model, " if variants else ""
    return (
        f"{counted(len(photo_set.photos), 'photo').capitalize()} of one subject, {ways}{made_elsewhere}"
        f"{counted(pictures, 'picture')} painted by them and by the untouched base."
    )


def anchor_lines(scores: PictureScores, titles: Mapping[str, str]) -> list[str]:
    """What each metric is to be seen against; "not measurable" where photos were too few for it."""
    anchors = scores.record.anchors
    return [_anchor_line(titles[metric], metric, anchors[metric]) for metric in scores.metrics if metric in anchors]


def _anchor_line(title: str, metric: str, anchors: Anchors) -> str:
    said = []
    for name, value in (("ceiling", anchors.ceiling), ("floor", anchors.floor)):
        if value is not None:
            said.append(f"{name} {signless(value, metric_named(metric).decimals)}")
        elif metric_named(metric).needs_ceiling or metric_named(metric).limit:  # the others have no such thing
            said.append(f"{name} not measurable")
    note = sentence(anchors.note)
    return " ".join([f"{title}: {', '.join(said)}." if said else f"{title}:", *([note] if note else [])])


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip()
    return text and text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def safety_line(plates: Sequence[Plate]) -> str:
    """Whether a safety checker ran, and what it flagged."""
    if not any(plate.checked for plate in plates):
        return "No safety checker ran on these pictures."
    flagged = sum(plate.flagged for plate in plates)
    if not flagged:
        return "The base’s safety checker ran and flagged no picture."
    return (
        f"The base’s safety checker ran and blanked {counted(flagged, 'picture')}; "
        f"{'it is' if flagged == 1 else 'they are'} not shown here and not scored."
    )


def conclusions_lead(study: Study) -> str:
    """What the sentences stand on: intervals over training seeds, or these pictures alone."""
    if all(len(variant.training_seeds) < FEWEST_SEEDS for variant in study.variants):
        return (
            "With fewer than three training seeds a variant nothing is tested: the sentences describe these pictures."
        )
    return (
        "Intervals are over training seeds, for these prompts and seeds. Comparisons with the base, pairs of variants "
        "and trends are each corrected for their number (Holm), and each interval has the confidence at which the "
        "correction decided."
    )
