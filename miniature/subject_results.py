"""What the jobs of the check of unseen subjects say together: figures, table lines, contact sheets."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np

from limner.artifacts import PhotoSet
from limner.embeddings import read_image
from miniature.files import written_whole
from miniature.individuals import Individual
from miniature.personalise import PHOTO_RENDERS, SKETCH_RENDERS, STYLED, THUMBNAIL_PX, Judgement, Outcome, thumbnail

SHOWN_PHOTOS = 3
BAND_PX = 16
TARGETS = {"full": 0.75, "lora": 0.70}
STYLE_TARGET, COPY_TARGET = 0.70, 0.10


def results_of(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """One record for each method and number of steps; of those that did not fail."""
    outcomes = [outcome for outcome in outcomes if outcome.judgements]
    labels = list(dict.fromkeys(outcome.task.run.label for outcome in outcomes))
    results = []
    for label in labels:
        same = [outcome for outcome in outcomes if outcome.task.run.label == label]
        steps = sorted({step for outcome in same for step in outcome.judgements})
        results += [_result(label, step, [o for o in same if step in o.judgements]) for step in steps]
    return results


def _result(label: str, step: int, outcomes: list[Outcome]) -> dict[str, Any]:
    seen = {outcome.task.name: outcome.judgements[step] for outcome in outcomes}
    variant = outcomes[0].task.run.variant
    renders = PHOTO_RENDERS * len(seen)
    return {
        "label": label,
        "method": variant.method,
        "steps": step,
        "right": sum(right_count(name, judgement) for name, judgement in seen.items()) / renders,
        "style": mean(style_share(judgement) for judgement in seen.values()),
        "sketches": sum(judgement.sketches for judgement in seen.values()) / (SKETCH_RENDERS * len(seen)),
        "copies": sum(judgement.copies for judgement in seen.values()) / renders,
        "margin": mean(margin for judgement in seen.values() for margin in judgement.margins),
        "likeness": mean(value for judgement in seen.values() for value in judgement.likeness),
        "heads_found": sum(judgement.heads_found for judgement in seen.values()) / renders,
        "right_of": {name: right_count(name, judgement) / PHOTO_RENDERS for name, judgement in seen.items()},
        "sketches_of": {name: judgement.sketches / SKETCH_RENDERS for name, judgement in seen.items()},
        "style_of": {s: mean(judgement.styles[s] == s for judgement in seen.values()) for s in STYLED},
        "cats": {name: cat_record(judgement) for name, judgement in seen.items()},
        "settings": variant.model_dump(mode="json", exclude_none=True),
        "render": outcomes[0].task.render.model_dump(mode="json", include={"sampler", "steps", "guidance_scale"}),
        "seconds": mean(outcome.seconds for outcome in outcomes),
        "seconds_per_step": mean(outcome.seconds_per_step for outcome in outcomes),
        "device": outcomes[0].device,
    }


def right_count(name: str, judgement: Judgement) -> int:
    """Photo renders nearest to the cat that was taught."""
    return sum(named == name for named in judgement.named)


def style_share(judgement: Judgement) -> float:
    """Share of styled renders whose asked style is named."""
    return mean(asked == named for asked, named in judgement.styles.items())


def cat_record(judgement: Judgement) -> dict[str, Any]:
    """What is written of one cat."""
    return {
        "named": judgement.named,
        "margins": [round(value, 4) for value in judgement.margins],
        "nearest_photo": [round(value, 4) for value in judgement.nearest_photo],
        "copy_limit": round(judgement.copy_limit, 4),
        "styles": judgement.styles,
    }


def met(result: dict[str, Any]) -> bool:
    """Whether all three targets are reached at once."""
    recognised = result["right"] >= TARGETS[result["method"]]
    return recognised and result["style"] >= STYLE_TARGET and result["copies"] <= COPY_TARGET


def table_lines(tag: str, results: list[dict[str, Any]]) -> list[str]:
    """A line for each method and number of steps."""
    return [
        f"| {tag} | {result['label']} | {result['steps']} steps | right cat {result['right']:.3f} "
        f"(margin {result['margin']:+.3f}, likeness {result['likeness']:.3f}) | sketches {result['sketches']:.3f} "
        f"| style {result['style']:.3f} "
        f"| copies {result['copies']:.3f} | {result['seconds_per_step'] * 1000:.0f} ms a step "
        f"| {'met' if met(result) else 'not met'} | "
        + " ".join(f"{name} {share:.1f}" for name, share in result["right_of"].items())
        for result in results
    ]


def save_sheets(folder: Path, tag: str, outcomes: list[Outcome], individuals: list[Individual]) -> None:
    """One JPEG for each method: a row for each cat, its photos, its ten renders, the styles."""
    outcomes = [outcome for outcome in outcomes if outcome.judgements]
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in tag)
    for label in dict.fromkeys(outcome.task.run.label for outcome in outcomes):
        same = {outcome.task.name: outcome for outcome in outcomes if outcome.task.run.label == label}
        cats = [cat for cat in individuals if cat.name in same]
        sheet = np.vstack([_band(cats), *(_row(cat, same[cat.name]) for cat in cats)])
        with written_whole(folder / f"{plain}-{label}.jpg") as temporary:
            cv2.imwrite(str(temporary), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def _band(cats: list[Individual]) -> np.ndarray:
    labels = [
        ", ".join(cat.name for cat in cats)[:60],
        *[""] * (SHOWN_PHOTOS - 1),
        *map(str, range(PHOTO_RENDERS)),
        *STYLED,
    ]
    band = np.full((BAND_PX, THUMBNAIL_PX * len(labels), 3), 255, np.uint8)
    for index, label in enumerate(labels):
        place = (index * THUMBNAIL_PX + 2, BAND_PX - 5)
        cv2.putText(band, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return band


def _row(cat: Individual, outcome: Outcome) -> np.ndarray:
    judgement = outcome.judgements[max(outcome.judgements)]
    photos = [thumbnail(read_image(file)) for file in PhotoSet(outcome.task.photos).files[:SHOWN_PHOTOS]]
    photos += [np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), 255, np.uint8)] * (SHOWN_PHOTOS - len(photos))
    wrong = [named != cat.name for named in judgement.named]
    wrong += [asked != named for asked, named in judgement.styles.items()]
    sketched = range(PHOTO_RENDERS, PHOTO_RENDERS + SKETCH_RENDERS)  # judged by their greyness and not shown
    renders = [picture.copy() for place, picture in enumerate(judgement.thumbnails) if place not in sketched]
    for picture, is_wrong in zip(renders, wrong, strict=True):
        if is_wrong:
            cv2.rectangle(picture, (0, 0), (THUMBNAIL_PX - 1, THUMBNAIL_PX - 1), (220, 0, 0), 3)
    return np.hstack([*photos, *renders])
