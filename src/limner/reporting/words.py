"""The report's sentences. Each says what was measured, on how many pictures, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.artifacts import PhotoSet
from limner.config import Study, expand_variants
from limner.reporting.findings import (
    COPYING,
    EDGES,
    FEWEST_SEEDS,
    LIKENESS,
    PROMPT_FIDELITY,
    Finding,
    Scores,
    role_of,
    signed,
    signless,
)
from limner.reporting.plates import Plate

MOST_NAMED = 6
NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def counted(count: int, noun: str, plural: str = "") -> str:
    """One picture, two pictures, 24 pictures."""
    word = NUMERALS[count] if count < len(NUMERALS) else f"{count:,}"
    return f"{word} {noun if count == 1 else plural or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """A, B and C."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


def training_seeds(study: Study) -> int:
    """The fewest training seeds any variant was trained with."""
    return min(len(variant.training_seeds) for variant in study.variants)


def summary(study: Study, findings: Sequence[Finding], scores: Scores, plate: Plate) -> list[str]:
    """What the figures say, in a few sentences."""
    trained = [finding for finding in findings if not finding.column.is_base]
    sentences = [_likeness(trained, plate), _fidelity(findings, scores)]
    seeds = training_seeds(study)
    if seeds >= FEWEST_SEEDS:
        sentences.append("These are means over pictures and training seeds; no test of their differences was made.")
    else:
        sentences.append(
            f"{counted(seeds, 'training seed').capitalize()} a variant: descriptive only. "
            "Whether a difference would hold with other seeds cannot be said from this."
        )
    return [sentence for sentence in sentences if sentence]


def _likeness(trained: Sequence[Finding], plate: Plate) -> str:
    ranked = sorted((f for f in trained if f.gain), key=lambda f: f.gain.mean if f.gain else 0.0, reverse=True)
    if not ranked:
        pictures = counted(plate.pictures, "picture")
        return f"Likeness could not be measured on these {pictures}; the comparison is left to the eye."
    figures = [f"{f.column.name} {signed(f.gain.mean)}" for f in ranked if f.gain]
    pictures = sorted({f.gain.count for f in ranked if f.gain})
    over = counted(pictures[0], "picture") if len(pictures) == 1 else f"{pictures[0]} to {pictures[-1]} pictures"
    order = ", from most to least" if len(ranked) > 1 else ""
    if len(figures) > MOST_NAMED:
        shown, rest = figures[: MOST_NAMED - 1], counted(len(figures) - MOST_NAMED, "other")
        figures = [*shown, f"{rest} between", f"last {figures[-1]}"]
    gain = "Mean gain in likeness over the base’s picture of the same prompt and seed"
    return f"{gain}, each over {over}{order}: {listed(figures)}."


def _fidelity(findings: Sequence[Finding], scores: Scores) -> str:
    metric = scores.metric(PROMPT_FIDELITY)
    values = [(f.column.name, value.mean) for f in findings if metric and (value := f.values[metric])]
    if not values:
        return "Prompt fidelity could not be measured."
    if len(values) == 1:
        return f"Prompt fidelity: {signless(values[0][1])} ({values[0][0]})."
    highest, lowest = max(values, key=lambda pair: pair[1]), min(values, key=lambda pair: pair[1])
    return (
        f"Mean prompt fidelity lies between {signless(lowest[1])} ({lowest[0]}) and "
        f"{signless(highest[1])} ({highest[0]})."
    )


def standfirst(study: Study, photo_set: PhotoSet, pictures: int) -> str:
    """What was done, in one line."""
    variants = len({run.label.partition("@")[0] for run in expand_variants(study.variants)})
    return (
        f"{counted(len(photo_set.photos), 'photo').capitalize()} of one subject, "
        f"{counted(variants, 'way')} of teaching it to a Stable Diffusion model, "
        f"{counted(pictures, 'picture')} painted by them and by the untouched base."
    )


def metric_meanings(scores: Scores) -> list[tuple[str, str]]:
    """What each score is, in a sentence, for those that are named."""
    meanings = {
        LIKENESS: (
            "Likeness",
            "how near an image embedding of the picture lies to those of the subject’s photos. Higher is more alike.",
        ),
        PROMPT_FIDELITY: (
            "Prompt fidelity",
            "how near the picture lies to its own prompt in CLIP’s shared space. Higher obeys more.",
        ),
        COPYING: (
            "Copying",
            "how far the picture repeats one training photo. High values are a warning, not a merit.",
        ),
        EDGES: (
            "Edge agreement",
            "how far the picture’s edges are those of its conditioning picture. Higher is closer.",
        ),
    }
    found = [meanings[role] for role in meanings if scores.metric(role)]
    gain = (
        "Gain",
        "likeness less that of the base’s picture of the same prompt, seed and image, then averaged.",
    )
    share = (
        "Share of the span",
        "where the mean likeness lies between floor (the base’s pictures) and ceiling "
        "(real photos of the subject against each other).",
    )
    return [*found[:1], gain, share, *found[1:]] if scores.metric(LIKENESS) else found


def anchor_lines(scores: Scores, titles: Mapping[str, str]) -> list[str]:
    """What each metric is to be seen against; "not measurable" where photos were too few for it."""
    anchors = scores.record.get("anchors", {})
    lines = [(titles[metric], role_of(metric), anchors[metric]) for metric in scores.metrics if metric in anchors]
    return [_anchor_line(*line) for line in lines]


def _anchor_line(title: str, role: str, anchors: Mapping[str, Any]) -> str:
    said = []
    for name in ("ceiling", "floor"):
        if anchors.get(name) is not None:
            said.append(f"{name} {signless(anchors[name])}")
        elif role in (LIKENESS, COPYING):  # the others have no such thing
            said.append(f"{name} not measurable")
    note = sentence(anchors.get("note") or "")
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
