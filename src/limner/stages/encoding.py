"""Photos and class images as training reads them: encoded by the base's VAE, each size by itself.

There are several sizes only where photos lie in buckets; a list has one entry a bucket then, narrow ones first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from limner.artifacts import ClassSet, PhotoSet, Size
from limner.base import Base
from limner.records import PhotoRecord
from limner.stages.context import Context
from limner.training import EncodedPictures, encode_pictures


@dataclass(frozen=True)
class EncodedSet:
    """Encodes what one call trains with; what was encoded before is read from `cache`."""

    base: Base
    context: Context
    cache: Path

    def photos(
        self, photo_set: PhotoSet, instance_prompts: Sequence[str] | None = None, *, flip: bool = False
    ) -> list[EncodedPictures]:
        """The photos for training, bucket by bucket, with their repeats; `instance_prompts` are theirs, if any."""
        by_size = _by_size(photo_set, photo_set.training_photos)
        files, repeats = photo_set.training_files, photo_set.training_repeats
        encoded = self._encoded({size: [files[index] for index in indices] for size, indices in by_size.items()}, flip)
        if instance_prompts is not None:
            different = list(dict.fromkeys(instance_prompts))
            rows = torch.tensor([different.index(prompt) for prompt in instance_prompts], device=self.base.device)
            with_indices = zip(encoded, by_size.values(), strict=True)
            encoded = [replace(pictures, prompt_rows=rows[indices]) for pictures, indices in with_indices]
        each = zip(encoded, by_size.values(), strict=True)
        return [pictures.repeated([repeats[index] for index in indices]) for pictures, indices in each]

    def of_class(self, class_set: ClassSet, photo_set: PhotoSet) -> list[EncodedPictures]:
        """Class images for each bucket of the photos; they are never flipped."""
        return self._encoded({size: class_set.files_of(size) for size in photo_set.training_shapes})

    def held_out(self, photo_set: PhotoSet) -> list[EncodedPictures]:
        """Photos that no training sees, size by size."""
        files = photo_set.held_out_files
        by_size = _by_size(photo_set, [photo for photo in photo_set.photos if photo.held_out])
        return self._encoded({size: [files[index] for index in indices] for size, indices in by_size.items()})

    def _encoded(self, files: Mapping[Size, Sequence[Path]], flip: bool = False) -> list[EncodedPictures]:
        count = sum(len(of_size) for of_size in files.values()) * (1 + flip)
        shared = {"flip": flip, "base_hash": self.context.base_hash, "cache": self.cache}
        shared["at_once"] = self.context.memory.vae_batch_size  # pictures
        with self.context.progress.task("train", count, "encode pictures") as advance:
            return [
                encode_pictures(self.base, of_size, size, **shared, advance=advance) for size, of_size in files.items()
            ]


def _by_size(photo_set: PhotoSet, photos: Sequence[PhotoRecord]) -> dict[Size, list[int]]:
    """Indices of the photos of each size of crop, sizes in the order of `PhotoSet.training_shapes`."""
    indices: dict[Size, list[int]] = {}
    for index, photo in enumerate(photos):
        indices.setdefault(photo_set.crop_size(photo), []).append(index)
    return dict(sorted(indices.items()))
