"""Pictures of others that the user brings: read as photos are, and kept as decoded while scores are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.artifacts import ClassSet, write_changed
from limner.errors import InputError
from limner.measuring import FEWEST_OTHERS, Picture
from limner.metrics import MOST_OTHERS, OtherPictures, find_others
from limner.progress import Progress
from limner.rendering import encode_png
from limner.stages.brought import BroughtReader, hashes_of_brought, list_brought

OTHERS, SETTING = ".others", "measure.others"


def others_of(folder: Path | None, class_set: ClassSet | None, pictures: Sequence[Picture]) -> OtherPictures:
    """The user's pictures, not yet read; else class images; else the base's renders of prompts without a style.

    Raises InputError when `folder` is not there or holds fewer than seven pictures.
    """
    if folder is None:
        return find_others(class_set, pictures)
    listing = list_brought(folder, SETTING)
    _require_enough(folder, len(listing.photos))
    hashes = tuple(hashes_of_brought(listing).values())
    return OtherPictures(SETTING, [picture.path for picture in listing.photos], real=True, hashes=hashes)


def read_others(folder: Path, size_px: int, out: Path, progress: Progress) -> OtherPictures:
    """The first of the user's pictures that can be read by the rules of photos of `size_px`, as PNG files in `out`.

    Raises InputError, with the reasons of those that cannot, when fewer than seven can.
    """
    listing = list_brought(folder, SETTING)
    hashes = hashes_of_brought(listing)
    files: list[Path] = []
    with BroughtReader(SETTING, listing, hashes, size_px) as reader:
        for picture in listing.photos:
            if len(files) == MOST_OTHERS:
                break
            pixels = reader.read(picture)
            if pixels is not None:
                files.append(out / f"{hashes[picture.name]}.png")
                write_changed(files[-1], encode_png(pixels, {}))
    reader.tell(progress)
    if len(listing.photos) > MOST_OTHERS == len(files):
        progress.notice(f"{SETTING}: the first {MOST_OTHERS} of {len(listing.photos)} pictures are used")
    _require_enough(folder, len(files), reader.why_too_few())
    for stale in {*out.glob("*.png")} - {*files}:
        stale.unlink()
    return OtherPictures(SETTING, files, real=True)


def _require_enough(folder: Path, count: int, why: str = "") -> None:
    if count < FEWEST_OTHERS:
        raise InputError(
            f"{SETTING} {folder} holds {count} pictures that can be used and {FEWEST_OTHERS} are needed{why}; "
            "add pictures of others of the class or leave it out"
        )
