"""What metrics measure from, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.artifacts import PhotoSet, RenderSet
from limner.config import Subject
from limner.embeddings import WHOLE, Crop, Embedded, EmbeddingCache, ImageEmbedder
from limner.measuring import FEWEST_PHOTOS, Picture, PromptKinds
from limner.metrics.others import OtherPictures
from limner.progress import Progress

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Measured:
    """A metric's values for some of the pictures, and what they are to be seen against."""

    indices: Sequence[int]  # in `MeasureInputs.pictures`
    values: Sequence[float]  # one for each index
    note: str  # what the values and anchors mean, or why there are none
    floor: float | None = None
    ceiling: float | None = None
    model: str = ""  # the name of what measured it; the embedder's where it is left out
    model_note: str = ""
    photos: Sequence[str] = ()  # for each index the photo that its value is about
    anchors: Mapping[str, Any] = field(default_factory=dict)  # fields of `Anchors`; others in `details`
    notes: Sequence[str] = ()  # for the notes of the whole table


@dataclass(frozen=True)
class MeasureInputs:
    """The pictures to be measured, the photos of the subject, and where embeddings are kept."""

    photo_set: PhotoSet
    pictures: Sequence[Picture]
    controls: RenderSet | None
    subject: Subject
    kinds: PromptKinds
    others: OtherPictures
    crop: Crop
    """What image embedders compare, but for models of faces."""
    cache: EmbeddingCache
    device: torch.device | str
    progress: Progress

    @property
    def files(self) -> list[Path]:
        """Where the pictures lie."""
        return [picture.file for picture in self.pictures]

    @property
    def compared_photos(self) -> list[Path]:
        """The photos that pictures are compared with: those that no training saw where there are enough, else all."""
        return compared_photos(self.photo_set)

    @property
    def compares_held_out(self) -> bool:
        """Whether pictures are compared with photos that no training saw."""
        return self.compared_photos != self.photo_set.files

    def names_subject(self, index: int) -> bool:
        """Whether a picture's prompt asks for the subject."""
        cell = self.pictures[index].cell
        return cell.reference is not None or cell.prompt not in self.kinds.without_subject

    def of_class(self, index: int) -> bool:
        """Whether a picture's prompt asks for the subject's class and not for the subject."""
        cell = self.pictures[index].cell
        return cell.reference is None and cell.prompt in self.kinds.of_class

    def indices_where(self, wanted: Callable[[int], bool]) -> list[int]:
        """The pictures that are wanted."""
        return [index for index in range(len(self.pictures)) if wanted(index)]

    def chosen(self, indices: Sequence[int]) -> list[Picture]:
        """The pictures at these indices."""
        return [self.pictures[index] for index in indices]


def compared_photos(photo_set: PhotoSet) -> list[Path]:
    """Photos that no training saw where there are enough, else all."""
    held_out = photo_set.held_out_files
    return held_out if len(held_out) >= FEWEST_PHOTOS else photo_set.files


@dataclass(frozen=True)
class ModelView:
    """What one image embedder sees: the photos that pictures are compared with (M, D), and the pictures (N, D)."""

    inputs: MeasureInputs
    embedder: ImageEmbedder
    crop: Crop
    photos: Embedded
    renders: Embedded
    whole_photos: Tensor  # (M, D): what pictures without a head are compared with

    @property
    def photo_vectors(self) -> Tensor:
        """The photos (M, D) in which what is compared was found: heads, faces, or whole pictures, which always are."""
        return self.photos.vectors[self.photos.found]

    def sees(self, index: int) -> bool:
        """Whether a picture counts: with a model of faces, whether it found one there."""
        return not self.crop.leaves_out or bool(self.renders.found[index])

    @property
    def compared(self) -> str:
        """What is compared, for notes."""
        return "faces" if self.crop.leaves_out else "pictures" if self.crop is WHOLE else "heads"


@dataclass(frozen=True)
class WholeView(ModelView):
    """Of an embedder that looks at whole pictures also those, and crops of the training photos."""

    whole: Tensor  # (N, D) of the pictures
    views: Tensor  # (T, V, D) of the training photos; view 0 is the photo


def too_few(what: str, count: int) -> str:
    """Says that `count` photos are too few for something."""
    photos = "1 photo" if count == 1 else f"{count} photos"
    return f"{what}: not measurable with {photos}; {FEWEST_PHOTOS} are needed"
