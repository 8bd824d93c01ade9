"""What lies between the stages: one small read-only type for each artefact on disk."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from limner.artifacts.disk import MANIFEST, Manifest, canonical_json, hash_bytes, read_manifest
from limner.errors import LimnerError


@dataclass(frozen=True)
class Artifact:
    """A folder with a manifest that some stage wrote."""

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The folder's manifest; LimnerError when it is not there."""
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise LimnerError(f"{self.folder} has no {MANIFEST}; run the stage that makes it first")
        return manifest

    @property
    def content_hash(self) -> str:
        """What a later stage names as its input."""
        return self.manifest.content_hash


Size = tuple[int, int]  # width and height in px


class PhotoSet(Artifact):
    """Crops of the subject (`photos/`), with where each came from and what was refused."""

    @property
    def files(self) -> list[Path]:
        """The crops, in order."""
        return [self.folder / photo["file"] for photo in self.photos]

    @property
    def training_files(self) -> list[Path]:
        """Those that are trained on."""
        return [self.folder / photo["file"] for photo in self.training_photos]

    @property
    def training_photos(self) -> list[dict[str, Any]]:
        """Records of those that are trained on."""
        return [photo for photo in self.photos if not photo.get("held_out")]

    @property
    def training_repeats(self) -> list[int]:
        """How often each of those comes while the rarest come once, or as small a whole number as it goes."""
        repeats = [photo.get("repeats", 1) for photo in self.training_photos]
        shared = math.gcd(*repeats)
        return [count // shared for count in repeats]

    @property
    def training_shapes(self) -> dict[Size, int]:
        """How many examples there are of each size of crop, a photo counted as often as it comes; narrow sizes first.

        There are several only where crops lie in buckets.
        """
        counted: Counter[Size] = Counter()
        for photo, repeats in zip(self.training_photos, self.training_repeats, strict=True):
            counted[self.crop_size(photo)] += repeats
        return dict(sorted(counted.items()))

    @property
    def training_hash(self) -> str:
        """What a training names as its input: which photos are held out, and which come oftener, matters too."""
        names = [file.name for file in self.held_out_files]
        repeats = [] if max(self.training_repeats, default=1) == 1 else [self.training_repeats]
        if not names and not repeats:
            return self.content_hash
        return hash_bytes(canonical_json([self.content_hash, names, *repeats]))

    @property
    def held_out_files(self) -> list[Path]:
        """Those that no training sees."""
        return [self.folder / photo["file"] for photo in self.photos if photo.get("held_out")]

    @property
    def photos(self) -> list[dict[str, Any]]:
        """Records: source, file, size [width, height] of the upright source, crop {x0, y0, x1, y1} in its pixels,
        focus, head {box, kind, score} or null, notes, warnings (some of them), and where they have them crop_size
        [width, height] (in buckets), held_out, caption and repeats."""
        return self.manifest.content["photos"]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Records of photos left out: source, reason."""
        return self.manifest.content["refused"]

    @property
    def size_px(self) -> int:
        """Side of square crops; others have at most the square's area."""
        return self.manifest.settings["size_px"]

    def crop_size(self, photo: Mapping[str, Any]) -> Size:
        """What the crop of a photo, by its record, measures."""
        width, height = photo.get("crop_size", (self.size_px, self.size_px))
        return width, height


class ClassSet(Artifact):
    """Class images for prior preservation (`class/`)."""

    @property
    def files(self) -> list[Path]:
        """The pictures, in order."""
        return [self.folder / image["file"] for image in self.manifest.content["images"]]

    def files_of(self, size: Size) -> list[Path]:
        """Those of one size; in a set without buckets all are of one."""
        images = self.manifest.content["images"]
        return [self.folder / image["file"] for image in images if tuple(image.get("size", size)) == size]

    @property
    def prompt(self) -> str:
        """The class prompt they are trained with."""
        return self.manifest.content["prompt"]


class AdapterFolder(Artifact):
    """A trained adapter (`adapters/VARIANT/`)."""

    @property
    def label(self) -> str:
        """The variant's name, as its folders are called."""
        return self.manifest.content["label"]

    @property
    def record(self) -> dict[str, Any]:
        """label, method, rank, alpha, training_seed, steps, start_from, seconds, loss, trainable_parameters, …"""
        return self.manifest.content


@dataclass(frozen=True)
class Cell:
    """One picture of a grid: what was asked for, and where it lies relative to the run's folder."""

    variant: str
    prompt: str  # the row's name; for a control cell the prompt's text
    seed: int
    image_index: int
    file: str
    text: str = ""  # the prompt as it was rendered
    negative_prompt: str = ""
    reference: str | None = None
    conditioning_scale: float | None = None
    training_seed: int | None = None
    lora_scale: float | None = None
    size: tuple[int, int] = (0, 0)  # width, height
    flagged: bool | None = None  # by the safety checker; None when none ran


class RenderSet(Artifact):
    """Pictures of a grid (`renders/` or `control/`); cell files are relative to this folder."""

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells, in the order variant, row, seed, image."""
        return [Cell(**{**cell, "size": tuple(cell["size"])}) for cell in self.manifest.content["cells"]]

    def path(self, cell: Cell) -> Path:
        """Where a cell's picture lies."""
        return self.folder / cell.file


@dataclass(frozen=True)
class ScoreTable:
    """`scores.json`: one row a value."""

    path: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """The whole file: rows, anchors, models, notes, and the manifest's fields under "manifest"."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LimnerError(f"{self.path} cannot be read ({error}); run the measure stage first") from None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """variant, prompt, reference, seed, image_index, training_seed, conditioning_scale, metric, value."""
        return self.record["rows"]


def unique(names: Iterable[str]) -> Sequence[str]:
    """Names in the order they first occur."""
    return list(dict.fromkeys(names))
