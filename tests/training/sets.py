"""Small photo and class sets as the stages before training leave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.artifacts import ClassSet, Manifest, PhotoSet, Size, file_hashes, write_manifest
from limner.config import FullVariant, LoraVariant, Subject, VariantRun, expand_variants
from limner.records import PhotoSetRecord
from tests.drawn import draw_subject
from tests.recorded import class_set, photo

SUBJECT = Subject(photos=Path("photos"), class_noun="cat")


def write_photo_set(
    folder: Path, count: int = 3, size_px: int = 64, first: int = 0, sizes: Sequence[Size] = ()
) -> PhotoSet:
    """`sizes`, of as many photos instead, are those of buckets."""
    files = _draw(folder, sizes or [(size_px, size_px)] * count, first)
    made = [photo(name, crop_size=sizes[place] if sizes else None) for place, name in enumerate(files)]
    record = PhotoSetRecord(photos=made, refused=[])
    manifest = Manifest("prepare", 1, "key", {"size_px": size_px}, {}, file_hashes(folder), record=record)
    write_manifest(folder, manifest)
    return PhotoSet(folder)


def write_class_set(folder: Path, count: int = 2, size_px: int = 64, sizes: Sequence[Size] = ()) -> ClassSet:
    """`sizes`, of as many pictures instead, are those of buckets."""
    files = _draw(folder, sizes or [(size_px, size_px)] * count, first=100)
    record = class_set(files, sizes=sizes)
    write_manifest(folder, Manifest("class-images", 1, "key", {}, {}, file_hashes(folder), record=record))
    return ClassSet(folder)


def _draw(folder: Path, sizes: Sequence[Size], first: int) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{index:04d}.png" for index in range(len(sizes))]
    for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
        draw_subject(size, first + index).save(folder / name)
    return names


def full_run(**settings) -> VariantRun:
    """A short full variant; the default learning rate is high enough to see weights move."""
    defaults = {"method": "full", "steps": 3, "learning_rate": 1e-3, "checkpoint_every_steps": 0}
    return expand_variants([FullVariant(**(defaults | settings))])[0]


def lora_run(**settings) -> VariantRun:
    """A short LoRA variant."""
    defaults = {"method": "lora", "rank": 2, "steps": 3, "learning_rate": 1e-2, "checkpoint_every_steps": 0}
    return expand_variants([LoraVariant(**(defaults | settings))])[0]
