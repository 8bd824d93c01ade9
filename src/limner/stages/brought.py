"""Pictures that a user brings along, of the class or of others: listed, read as carefully as photos, and named if not.

They are decoded by the same rules as photos, in the same confined processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from limner.artifacts import Size
from limner.decoding import Decoders, ReadingRules, RefusedPhotoError
from limner.errors import InputError, PhotoError
from limner.photos import Listed, Listing, Refusal, list_pictures, table_of, unused_rows
from limner.progress import Progress
from limner.stages.photo_folders import content_hash

MOST_NAMED = 5  # of the pictures that an error names


def list_brought(folder: Path, setting: str) -> Listing:
    """The pictures in `folder` and in kohya's folders in it. Raises InputError, which names the `setting`."""
    if not folder.is_dir():
        raise InputError(f"{setting} {folder} is not there; name a folder of pictures or leave it out")
    try:
        return list_pictures(folder)
    except PhotoError as error:
        raise InputError(f"{setting}: {error}") from None


def hashes_of_brought(listing: Listing) -> dict[str, str]:
    """What names each picture's content in keys."""
    rules = ReadingRules(1)
    return {picture.name: content_hash(picture.path, rules.most_bytes) for picture in listing.photos}


@dataclass
class BroughtReader:
    """Reads pictures one by one, and remembers what is to be said of them; used in a `with` block."""

    setting: str
    listing: Listing
    hashes: dict[str, str]
    size_px: int
    used: int = 0
    refused: list[Refusal] = field(default_factory=list)
    noted: list[Refusal] = field(default_factory=list)
    _room: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.refused += self.listing.refused

    def __enter__(self) -> BroughtReader:
        self._decoders = self._room.enter_context(Decoders(1))
        return self

    def __exit__(self, *_: object) -> None:
        self._room.close()

    def read(self, picture: Listed) -> np.ndarray | None:
        """(H, W, 3) uint8 upright in sRGB; None for a picture that is refused.

        Raises InputError for one whose content is not what was listed.
        """
        rules = ReadingRules(self.size_px, full_scale=True)
        try:
            pixels, notes = self._decoders.read(picture.path, rules)
        except RefusedPhotoError as error:
            self.refused.append(Refusal(picture.name, str(error)))
            return None
        if content_hash(picture.path, rules.most_bytes) != self.hashes[picture.name]:
            raise InputError(f"{self.setting}: {picture.name} changed while it was read; run the same command again")
        self.used += 1
        self.note(picture, notes)
        return pixels

    def note(self, picture: Listed, notes: Sequence[str]) -> None:
        """Remember something remarkable about a picture."""
        self.noted += [Refusal(picture.name, note) for note in notes]

    def tell(self, progress: Progress) -> None:
        """One notice of all that was left out, noted or not used."""
        rows = [("left out", one.source, one.reason) for one in self.refused]
        rows += [("note", one.source, one.reason) for one in self.noted]
        rows += unused_rows([*self.listing.unused, *_without_use(self.listing.photos)])
        counts = f"{self.setting}: {self.used} pictures are used, {len(self.refused)} are left out"
        if table := table_of(counts, rows):
            progress.notice(table)

    def why_too_few(self) -> str:
        """The pictures that were refused, with reasons, in brackets; empty if none was."""
        named = "; ".join(f"{one.source}: {one.reason}" for one in self.refused[:MOST_NAMED])
        more = len(self.refused) - MOST_NAMED
        return f" (left out: {named}{f'; and {more} more' if more > 0 else ''})" if named else ""


def _without_use(pictures: Sequence[Listed]) -> Iterator[Refusal]:
    """Captions and repeats, which count for photos only."""
    captioned = sum(bool(picture.caption) for picture in pictures)
    if captioned:
        yield Refusal("captions", f"those of {captioned} pictures: only photos of the subject are captioned")
    for number in sorted({picture.repeats for picture in pictures} - {1}):
        yield Refusal(f"{number}_…/", "each of its pictures counts once: only photos of the subject are repeated")


def enlargement(pixels: np.ndarray, size: Size) -> list[str]:
    """A note for a picture (H, W, 3) that is smaller than the `size` (width, height) it is brought to."""
    scale = min(have / want for have, want in zip(pixels.shape[1::-1], size, strict=True))
    return [f"enlarged {1 / scale:.1f} times, from {pixels.shape[1]}x{pixels.shape[0]} px"] if scale < 1 else []
