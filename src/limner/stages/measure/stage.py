"""What goes in, whether the scores are current, and the order in which they are made."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from limner.artifacts import (
    ClassSet,
    PhotoSet,
    RenderSet,
    ScoreTable,
    Specification,
    canonical_json,
    hash_bytes,
    machine_record,
    scores_are_current,
    write_scores,
)
from limner.base import BaseLocation
from limner.config import Measure, Subject
from limner.embeddings import WHOLE, EmbedderLocation, EmbeddingCache, SubjectHeads, find_embedder
from limner.errors import InputError
from limner.measuring import Picture, ScoreSheet, control_summary, prompt_kinds
from limner.metrics import MeasureInputs, OtherPictures, compared_photos
from limner.progress import SILENT, Progress
from limner.stages.measure.not_found import whole_pictures_note
from limner.stages.measure.others import OTHERS, others_of, read_others
from limner.stages.measure.scoring import MeasureModels, score

STAGE, VERSION = "measure", 5
CACHE = Path("work") / ".embeddings"  # no variant's name starts with a dot


def measure(
    out: Path,
    photo_set: PhotoSet,
    renders: RenderSet,
    controls: RenderSet | None,
    subject: Subject,
    settings: Measure,
    base_location: BaseLocation,
    device: torch.device | str,
    *,
    class_set: ClassSet | None = None,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> ScoreTable:
    """Score every picture of `renders` and `controls` into the file `out` (scores.json).

    Embeddings are kept in `cache` (`work/.embeddings` beside `out` unless given). Raises LimnerError for a picture
    that cannot be read; a model that is absent or unfit is left out and named under "models".
    """
    models = find_models(settings, base_location)
    scores = ScoreSheet()
    pictures = _pictures(renders, scores) + (_pictures(controls, scores) if controls else [])
    others = others_of(settings.others, class_set, pictures)
    specification = specify_measure(photo_set, renders, controls, subject, settings, models, others)
    if scores_are_current(out, specification.key):
        return ScoreTable(out)
    started = time.monotonic()
    kinds = prompt_kinds(pictures, subject.identifier, subject.class_noun)
    cache = cache or out.parent / CACHE
    if settings.others is not None:
        others = read_others(settings.others, photo_set.size_px, cache.with_name(OTHERS), progress)
    heads = SubjectHeads(subject.class_noun, compared_photos(photo_set), device) if settings.crop == "head" else None
    crop = heads.crop if heads and heads.compared else WHOLE
    if heads and not heads.compared:
        scores.notes.append(whole_pictures_note(heads))
    embeddings = EmbeddingCache(cache)
    inputs = MeasureInputs(photo_set, pictures, controls, subject, kinds, others, crop, embeddings, device, progress)
    score(inputs, models, scores)
    if controls:
        scores.control = control_summary(scores.rows)
    write_scores(out, scores.record(specification, machine_record(seconds=round(time.monotonic() - started, 2))))
    return ScoreTable(out)


def specify_measure(
    photo_set: PhotoSet,
    renders: RenderSet,
    controls: RenderSet | None,
    subject: Subject,
    settings: Measure,
    models: MeasureModels,
    others: OtherPictures,
) -> Specification:
    """What scores follow from: every model by its content."""
    compared = compared_photos(photo_set)
    read = {
        "measure": settings.model_dump(mode="json", exclude={"others"}),
        "subject": [subject.identifier, subject.class_noun],
    }
    inputs = {
        "photos": [photo_set.content_hash, [file.name for file in photo_set.held_out_files]],
        "renders": _grid_hash(renders),
        "controls": controls and _grid_hash(controls),
        "models": models.identities,
        "crop": WHOLE.name if settings.crop == "whole" else SubjectHeads(subject.class_noun, compared).identity,
        "others": [others.origin, others.content_hash],
    }
    return Specification(STAGE, VERSION, read, inputs)


def find_models(settings: Measure, base: BaseLocation) -> MeasureModels:
    """Where the models are that the settings name; none is loaded."""
    of_images = {name: _find(name, base) for name in settings.likeness}
    return MeasureModels(of_images, settings.prompt_fidelity, _find(settings.prompt_fidelity, base))


def _find(name: str, base: BaseLocation) -> EmbedderLocation | str:
    try:
        return find_embedder(name, base)
    except InputError as error:
        return str(error)


def _pictures(grid: RenderSet, scores: ScoreSheet) -> list[Picture]:
    """A grid's cells, but for those that the safety checker blanked."""
    blanked = [cell for cell in grid.cells if cell.flagged]
    if blanked:
        scores.notes.append(f"{len(blanked)} pictures blanked by the safety checker are not scored")
    return [Picture(cell, grid.path(cell)) for cell in grid.cells if not cell.flagged]


def _grid_hash(grid: RenderSet) -> str:
    """Hash of a grid's files and of what its cells say (their prompts' texts are read here)."""
    return hash_bytes(canonical_json([grid.content_hash, [cell.to_json() for cell in grid.cells]]))
