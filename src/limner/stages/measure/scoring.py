"""Every registered metric, measured into the table of scores: first what image embedders see, model by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from limner.embeddings import WHOLE, EmbedderLocation, read_image, view_crops
from limner.errors import InputError
from limner.measuring import ScoreSheet
from limner.metrics import (
    Measured,
    MeasureInputs,
    Metric,
    ModelView,
    OfImageModel,
    OfPictures,
    OfTextModel,
    OfWholePictures,
    WholeView,
    all_metrics,
)
from limner.stages.measure.not_found import not_found_notes


@dataclass(frozen=True)
class MeasureModels:
    """The models that the study asks for, by name; a string is the reason why one cannot be used."""

    image: Mapping[str, EmbedderLocation | str]
    text_name: str
    text: EmbedderLocation | str

    @property
    def identities(self) -> dict[str, object]:
        """What goes into the key: an absent model counts, so that scores are made again once it is there."""
        return {"image": {name: _identity(each) for name, each in self.image.items()}, "text": _identity(self.text)}


def score(inputs: MeasureInputs, models: MeasureModels, scores: ScoreSheet) -> None:
    """Measure every metric. Models that cannot be used are left out, with the reason among the models and notes."""
    _score_image_models(inputs, models, scores)
    _score_text_model(inputs, models, scores)
    for metric in all_metrics():
        if isinstance(metric.source, OfPictures):
            _add(inputs, scores, metric, metric.name, metric.source.measure(inputs))
    scores.notes += _unmeasured(inputs, OfPictures)


def _score_image_models(inputs: MeasureInputs, models: MeasureModels, scores: ScoreSheet) -> None:
    stands_for_all = next(metric for metric in all_metrics() if isinstance(metric.source, OfImageModel))
    heads_noted = inputs.crop is WHOLE
    if inputs.crop.squares is not None:
        photos = inputs.photo_set.files
        scores.mark_photos(photos, inputs.crop.squares([read_image(file) for file in photos]))
    for name, location in models.image.items():
        try:
            view = _view(inputs, name, location)
        except InputError as error:
            _leave_out(inputs, scores, stands_for_all.of(name), name, str(error))
            continue
        for metric in all_metrics():
            _add(inputs, scores, metric, metric.of(name), _seen(metric, view), view.embedder.name)
        if view.crop.leaves_out or not heads_noted:
            scores.notes += not_found_notes(view)
        if not view.crop.leaves_out and not heads_noted:
            squares = view.renders.squares.tolist()
            scores.mark(inputs.pictures, [square if square[0] >= 0 else None for square in squares])
        heads_noted = heads_noted or not view.crop.leaves_out
    scores.notes += _unmeasured(inputs, OfImageModel, OfWholePictures)


def _seen(metric: Metric, view: ModelView) -> Measured | None:
    """What an image embedder's view says of the pictures by this metric."""
    if isinstance(metric.source, OfImageModel):
        return metric.source.measure(view)
    if isinstance(metric.source, OfWholePictures) and isinstance(view, WholeView):
        return metric.source.measure(view)
    return None


def _view(inputs: MeasureInputs, name: str, location: EmbedderLocation | str) -> ModelView:
    """Everything that an image embedder looks at, embedded. InputError where it cannot be used."""
    embedder, face_crop = require_found(location).load_image(inputs.device), require_found(location).required_crop()
    crop, cache, photos = face_crop or inputs.crop, inputs.cache, inputs.compared_photos
    training, views = inputs.photo_set.training_files, [] if face_crop else view_crops()
    total = len(inputs.pictures) * (1 if face_crop else 2) + len(photos) + len(views) * len(training)
    with inputs.progress.task("measure", total, f"likeness ({name})") as advance:
        of_photos = cache.embed(embedder, photos, crop, advance)
        renders = cache.embed(embedder, inputs.files, crop, advance)
        if face_crop is None:
            whole_photos = cache.embed(embedder, photos, WHOLE).vectors
            whole = cache.embed(embedder, inputs.files, WHOLE, advance).vectors
            of_training = torch.stack([cache.embed(embedder, training, each, advance).vectors for each in views], 1)
            return WholeView(inputs, embedder, crop, of_photos, renders, whole_photos, whole, of_training)
    if not of_photos.found.any():
        raise InputError(f"no face was found in any of the {len(photos)} photos")
    return ModelView(inputs, embedder, crop, of_photos, renders, of_photos.vectors)


def _score_text_model(inputs: MeasureInputs, models: MeasureModels, scores: ScoreSheet) -> None:
    metrics = [metric for metric in all_metrics() if isinstance(metric.source, OfTextModel)]
    try:
        pair = require_found(models.text).load_pair(inputs.device)
    except InputError as error:
        _leave_out(inputs, scores, metrics[0].of(models.text_name), models.text_name, str(error))
        return
    for metric in metrics:
        if isinstance(metric.source, OfTextModel):
            measured = metric.source.measure(inputs, pair)
            _add(inputs, scores, metric, metric.of(models.text_name), measured, models.text_name)
    scores.notes += _unmeasured(inputs, OfTextModel)


def _add(
    inputs: MeasureInputs, scores: ScoreSheet, metric: Metric, name: str, measured: Measured | None, model: str = ""
) -> None:
    if measured is None:
        return
    scores.use(name, measured.model or model, measured.model_note)
    scores.add(name, inputs.chosen(measured.indices), measured.values, measured.photos)
    scores.anchor(name, measured.floor, measured.ceiling, measured.note, **measured.anchors)
    scores.notes += measured.notes


def _unmeasured(inputs: MeasureInputs, *kinds: type) -> Iterable[str]:
    asked = [metric.unmeasured for metric in all_metrics() if isinstance(metric.source, kinds) and metric.unmeasured]
    return [note for why in asked if (note := why(inputs))]


def _leave_out(inputs: MeasureInputs, scores: ScoreSheet, metric: str, model: str, reason: str) -> None:
    scores.leave_out(metric, model, reason)
    inputs.progress.notice(f"{metric} is left out: {reason}")


def require_found(location: EmbedderLocation | str) -> EmbedderLocation:
    """The location, or InputError with the reason why there is none."""
    if isinstance(location, str):
        raise InputError(location)
    return location


def _identity(location: EmbedderLocation | str) -> str | None:
    return None if isinstance(location, str) else location.identity
