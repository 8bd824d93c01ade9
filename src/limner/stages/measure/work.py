"""What every part of the stage works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.artifacts import PhotoSet
from limner.embeddings import Crop, EmbedderLocation, EmbeddingCache
from limner.errors import InputError
from limner.measuring import FEWEST_PHOTOS, Picture, PromptKinds, Scores
from limner.progress import Progress

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Work:
    """The pictures to be scored, the table that the scores go to, and where embeddings are kept."""

    scores: Scores
    photo_set: PhotoSet
    pictures: Sequence[Picture]
    kinds: PromptKinds
    crop: Crop
    """What likeness compares."""
    cache: EmbeddingCache
    device: torch.device | str
    progress: Progress

    @property
    def files(self) -> list[Path]:
        """Where the pictures lie."""
        return [picture.file for picture in self.pictures]

    @property
    def likeness_photos(self) -> list[Path]:
        """What likeness is measured against: photos that no training saw where there are enough, else all."""
        held_out = self.photo_set.held_out_files
        return held_out if len(held_out) >= FEWEST_PHOTOS else self.photo_set.files

    def names_subject(self, picture: Picture) -> bool:
        """Whether a picture's prompt asks for the subject."""
        return picture.cell.reference is not None or picture.cell.prompt not in self.kinds.without_subject

    def of_class(self, picture: Picture) -> bool:
        """Whether a picture's prompt asks for the subject's class and not for the subject."""
        return picture.cell.reference is None and picture.cell.prompt in self.kinds.of_class

    def add_chosen(self, metric: str, values: Sequence[float], places: Sequence[int]) -> None:
        """Rows for the pictures at `places` out of the values of all."""
        self.scores.add(metric, [self.pictures[p] for p in places], [values[p] for p in places])

    def leave_out(self, metric: str, name: str, reason: str) -> None:
        """Say that a metric cannot be had, and why."""
        self.scores.leave_out(metric, name, reason)
        self.progress.notice(f"{metric} is left out: {reason}")


def there(place: EmbedderLocation | str) -> EmbedderLocation:
    """The place, or InputError with the reason why there is none."""
    if isinstance(place, str):
        raise InputError(place)
    return place


def too_few(what: str, count: int) -> str:
    """Says that `count` photos are too few for something."""
    photos = "1 photo" if count == 1 else f"{count} photos"
    return f"{what}: not measurable with {photos}; {FEWEST_PHOTOS} are needed"
