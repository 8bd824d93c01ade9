"""Scores a validation's pictures while training: the function that the corridor hands to the train stage.

Likeness and prompt fidelity are given as shares of what the untouched base and real photos reach, so that they can be
weighed against each other. What is measured, and how, is what the measure stage measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.artifacts import PhotoSet, hash_file
from limner.base import Base, BaseLocation
from limner.config import Measure, Subject, Validation
from limner.embeddings import (
    WHOLE,
    Crop,
    EmbedderLocation,
    EmbeddingCache,
    ImageEmbedder,
    PairEmbedder,
    SubjectHeads,
    find_embedder,
    view_crops,
)
from limner.errors import InputError
from limner.measuring import (
    DECIMALS,
    FEWEST_PHOTOS,
    PhotoSpread,
    ceiling,
    likeness_like_for_like,
    nearest_photo,
    photo_spread,
    prompt_fidelity,
    span_fraction,
    styles_named,
)
from limner.metrics import LIKENESS, PROMPT_FIDELITY
from limner.progress import SILENT, Progress
from limner.records import ValidationRecord
from limner.rendering.validation import validation_pictures, validation_prompts

Show = Callable[[int], np.ndarray]
"""Renders a step's pictures (N, H, W, 3) uint8, from the base's modules as they are."""


NOT_MEASURED: dict[str, float | None] = {
    "likeness": None,
    "likeness_share": None,
    "copying_share": None,
    "copying": None,
}


@dataclass(frozen=True)
class LikenessModel:
    """What one image embedder compares with."""

    embedder: ImageEmbedder
    crop: Crop
    photos: Tensor  # (H, D), cut as the pictures are
    whole_photos: Tensor  # (M, D), for pictures without a head
    views: Tensor  # (T, V, D) of the training photos
    floor: float
    top: float | None
    spread: PhotoSpread | None


@dataclass(frozen=True)
class FidelityModel:
    """What the text model compares with."""

    pair: PairEmbedder
    texts: Tensor  # (N, D), each picture's own
    floor: float | None  # the base's pictures with the other prompts, where there are any
    top: float  # with their own


class Scorer:
    """Scores the pictures of one study's validations; every variant with the same settings can share it."""

    def __init__(
        self,
        base: Callable[[], Base],
        location: BaseLocation,
        subject: Subject,
        settings: Validation,
        measure: Measure,
        photo_set: PhotoSet,
        cache: Path,
        *,
        device: torch.device | str = "cpu",
        vae_batch_size: int = 4,
        progress: Progress = SILENT,
    ) -> None:
        self.base, self.subject, self.settings, self.photo_set = base, subject, settings, photo_set
        self.cache, self.device, self.vae_batch_size = EmbeddingCache(cache), device, vae_batch_size
        self.heads = SubjectHeads(subject.class_noun, self.likeness_photos, device) if measure.crop == "head" else None
        self.left_out: dict[str, str] = {}
        located = {LIKENESS.of(name): self._find(LIKENESS.of(name), name, location) for name in measure.likeness}
        self.locations = {metric: each for metric, each in located.items() if each is not None}
        self.pair_name = PROMPT_FIDELITY.of(measure.prompt_fidelity)
        self.pair_location = self._find(self.pair_name, measure.prompt_fidelity, location)
        self.progress = progress
        self._models: tuple[dict[str, LikenessModel], FidelityModel | None] | None = None

    def _find(self, metric: str, name: str, location: BaseLocation) -> EmbedderLocation | None:
        try:
            return find_embedder(name, location)
        except InputError as error:
            self.left_out[metric] = str(error)
            return None

    @cached_property
    def judged_by(self) -> dict[str, Any]:
        """What the scores depend on besides the settings of the validation and the photos."""
        return {
            "likeness": {metric: each.identity for metric, each in self.locations.items()},
            "prompt_fidelity": self.pair_location.identity if self.pair_location else None,
            "crop": self.heads.identity if self.heads else WHOLE.name,
            "prompts": validation_prompts(self.subject, self.settings),
            "against": [hash_file(file) for file in self.likeness_photos],
        }

    @property
    def likeness_photos(self) -> list[Path]:
        """As the measure stage does: photos that no training saw where there are enough, else all."""
        held_out = self.photo_set.held_out_files
        return held_out if len(held_out) >= FEWEST_PHOTOS else self.photo_set.files

    def begin(self) -> None:
        """Measure what the untouched base reaches; to be called before the base's modules change."""
        if self._models is not None:
            return
        prompts = validation_prompts(self.subject, self.settings, as_class=True)
        images = validation_pictures(self.base(), prompts, self.settings.seed, vae_batch_size=self.vae_batch_size)
        self._models = ({m: one for m in self.locations if (one := self._likeness(m, images))}, self._fidelity(images))
        for metric, reason in self.left_out.items():
            self.progress.notice(f"validation: {metric} is left out: {reason}")

    def __call__(self, step: int, images: np.ndarray) -> ValidationRecord:
        """A step's record from its pictures (N, H, W, 3) uint8; what cannot be measured is None."""
        assert self._models is not None  # `begin` comes first
        models, fidelity = self._models
        rows = [self._of_likeness(model, images) for model in models.values()]
        means = {name: _mean([row[name] for row in rows]) for name in NOT_MEASURED}
        value = share = None
        if fidelity is not None:
            value = float(prompt_fidelity(fidelity.pair.embed([*images]), fidelity.texts).mean())
            share = span_fraction(value, fidelity.floor, fidelity.top)
        return ValidationRecord(
            step=step,
            **means,
            prompt_fidelity=_round(value),
            fidelity_share=_round(share),
        )

    def _likeness(self, metric: str, of_base: np.ndarray) -> LikenessModel | None:
        try:
            embedder = self.locations[metric].load_image(self.device)
        except InputError as error:
            self.left_out[metric] = str(error)
            return None
        crop = self.heads.crop if self.heads and self.heads.compared else WHOLE
        photos = self.cache.embed(embedder, self.likeness_photos, crop)
        heads, whole = photos.vectors[photos.found], self.cache.embed(embedder, self.likeness_photos, WHOLE).vectors
        training = self.photo_set.training_files
        views = torch.stack([self.cache.embed(embedder, training, crop).vectors for crop in view_crops()], 1)
        model = LikenessModel(embedder, crop, heads, whole, views, 0.0, ceiling(heads), photo_spread(views))
        return replace(model, floor=self._mean_likeness(model, of_base))

    def _fidelity(self, of_base: np.ndarray) -> FidelityModel | None:
        if self.pair_location is None:
            return None
        try:
            pair = self.pair_location.load_pair(self.device)
        except InputError as error:
            self.left_out[self.pair_name] = str(error)
            return None
        prompts = validation_prompts(self.subject, self.settings, as_class=True)
        texts = self.cache.embed_texts(pair, prompts)
        similarity = pair.embed([*of_base]) @ texts.T  # (N, N)
        other = torch.tensor([[one != another for another in prompts] for one in prompts])
        floor = float(similarity[other].mean()) if other.any() else None
        return FidelityModel(pair, texts, floor, float(similarity.diagonal().mean()))

    def _of_likeness(self, model: LikenessModel, images: np.ndarray) -> dict[str, float | None]:
        value = self._mean_likeness(model, images)
        row = {**NOT_MEASURED, "likeness": value, "likeness_share": span_fraction(value, model.floor, model.top)}
        if model.spread is None:
            return row
        nearest = nearest_photo(model.embedder.embed([*images]), model.views)
        above = float((nearest > model.spread.limit).float().mean())
        return row | {"copying": float(nearest.mean()), "copying_share": above}

    def _mean_likeness(self, model: LikenessModel, images: np.ndarray) -> float:
        """Of the pictures by which likeness is judged: of those that name no style, if there are any."""
        prompts = validation_prompts(self.subject, self.settings, as_class=True)
        plain = [index for index, prompt in enumerate(prompts) if styles_named(prompt) == []]
        chosen = [images[index] for index in plain or range(len(prompts))]
        parts = model.crop.parts(chosen, model.embedder.size_px)
        vectors, cut = model.embedder.embed([part.image for part in parts]), torch.tensor([p.found for p in parts])
        return float(likeness_like_for_like(vectors, cut, model.photos, model.whole_photos).mean())


def scoring(
    show: Show, score: Callable[[int, np.ndarray], ValidationRecord] | None
) -> Callable[[int], ValidationRecord | None]:
    """The function of the step that training is handed: show the pictures, and score them if anyone asks."""

    def validate(step: int) -> ValidationRecord | None:
        images = show(step)
        return score(step, images) if score is not None else None

    return validate


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _round(sum(known) / len(known)) if known else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
