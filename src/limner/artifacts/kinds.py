"""What lies between the stages: one small read-only type for each artefact on disk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from limner.artifacts.disk import canonical_json, hash_bytes
from limner.artifacts.manifest import Manifest, load_manifest
from limner.artifacts.scores import load_scores
from limner.errors import RecordError
from limner.records import (
    AdapterRecord,
    ArtifactRecord,
    Cell,
    ClassSetRecord,
    ControlReferenceRecord,
    ControlSetRecord,
    PhotoRecord,
    PhotoSetRecord,
    RefusedPhoto,
    RenderSetRecord,
    ScoreRow,
    ScoresRecord,
    Size,
)

Kind = TypeVar("Kind", bound=ArtifactRecord)


@dataclass(frozen=True)
class Artifact:
    """A folder with a manifest that some stage wrote."""

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The folder's manifest. Raises RecordError when it is absent or damaged, or a newer limner wrote it."""
        return load_manifest(self.folder)

    @property
    def content_hash(self) -> str:
        """What a later stage names as its input."""
        return self.manifest.content_hash

    def _record(self, kind: type[Kind]) -> Kind:
        """The artefact's own record. Raises RecordError when the folder holds another kind of artefact."""
        record = self.manifest.record
        if not isinstance(record, kind):
            raise RecordError(f"{self.folder} was made by the stage {self.manifest.stage}; name another folder")
        return record


class PhotoSet(Artifact):
    """Crops of the subject (`photos/`), with where each came from and what was refused."""

    @property
    def record(self) -> PhotoSetRecord:
        """What its manifest says of it."""
        return self._record(PhotoSetRecord)

    @property
    def photos(self) -> list[PhotoRecord]:
        """The crops, in order."""
        return self.record.photos

    @property
    def refused(self) -> list[RefusedPhoto]:
        """Photos left out."""
        return self.record.refused

    @property
    def files(self) -> list[Path]:
        """The crops' files, in order."""
        return [self.folder / photo.file for photo in self.photos]

    @property
    def training_files(self) -> list[Path]:
        """Those that are trained on."""
        return [self.folder / photo.file for photo in self.training_photos]

    @property
    def training_photos(self) -> list[PhotoRecord]:
        """Records of those that are trained on."""
        return [photo for photo in self.photos if not photo.held_out]

    @property
    def training_repeats(self) -> list[int]:
        """How often each of those comes while the rarest come once, or as small a whole number as it goes."""
        repeats = [photo.repeats for photo in self.training_photos]
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
        """What a training names as its input: which photos are held out or repeated matters too."""
        names = [file.name for file in self.held_out_files]
        repeats = [] if max(self.training_repeats, default=1) == 1 else [self.training_repeats]
        if not names and not repeats:
            return self.content_hash
        return hash_bytes(canonical_json([self.content_hash, names, *repeats]))

    @property
    def held_out_files(self) -> list[Path]:
        """Those that no training sees."""
        return [self.folder / photo.file for photo in self.photos if photo.held_out]

    @property
    def size_px(self) -> int:
        """Side of square crops; others have at most the square's area."""
        return self.manifest.settings["size_px"]

    def crop_size(self, photo: PhotoRecord) -> Size:
        """Width and height of a photo's crop in px."""
        return photo.crop_size or (self.size_px, self.size_px)


class ClassSet(Artifact):
    """Class images for prior preservation (`class/`)."""

    @property
    def record(self) -> ClassSetRecord:
        """What its manifest says of it."""
        return self._record(ClassSetRecord)

    @property
    def files(self) -> list[Path]:
        """The pictures, in order."""
        return [self.folder / image.file for image in self.record.images]

    def files_of(self, size: Size) -> list[Path]:
        """Those of one size; in a set without buckets all are of one."""
        return [self.folder / image.file for image in self.record.images if (image.size or size) == size]

    @property
    def prompt(self) -> str:
        """The class prompt they are trained with."""
        return self.record.prompt


class AdapterFolder(Artifact):
    """A trained adapter (`adapters/VARIANT/`)."""

    @property
    def record(self) -> AdapterRecord:
        """What its manifest says of it."""
        return self._record(AdapterRecord)

    @property
    def label(self) -> str:
        """The variant's name, as its folders are called."""
        return self.record.label


class RenderSet(Artifact):
    """Pictures of a grid (`renders/` or `control/`); cell files are relative to this folder."""

    @property
    def record(self) -> RenderSetRecord:
        """What its manifest says of it."""
        return self._record(RenderSetRecord)

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order variant, row, seed, image."""
        return self.record.cells

    @property
    def references(self) -> list[ControlReferenceRecord]:
        """The conditioning images; none in a grid without them."""
        return self.record.references if isinstance(self.record, ControlSetRecord) else []

    def path(self, cell: Cell) -> Path:
        """Where a cell's picture lies."""
        return self.folder / cell.file


@dataclass(frozen=True)
class ScoreTable:
    """`scores.json`: one row a value."""

    path: Path

    @cached_property
    def record(self) -> ScoresRecord:
        """The whole file. Raises RecordError when it is absent or damaged, or a newer limner wrote it."""
        return load_scores(self.path)

    @property
    def rows(self) -> list[ScoreRow]:
        """One a value."""
        return self.record.rows


def unique(names: Iterable[str]) -> Sequence[str]:
    """Names in the order they first occur."""
    return list(dict.fromkeys(names))
