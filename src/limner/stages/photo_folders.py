"""Folders that pictures are read from and photo sets are written to: what changed, and what may be replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from limner.artifacts import MANIFEST, hash_file, read_manifest, require_folder
from limner.errors import DiskError, PhotoError
from limner.photos import Listed, list_pictures
from limner.progress import Progress

STAGE, CONTACT_SHEET = "prepare", "contact.jpg"

PicturesState = dict[str, tuple[object, ...]]
"""Caption, size, time of the last change (ns) and inode of every picture, by name."""


def state_of(pictures: Sequence[Listed]) -> PicturesState:
    """What tells the pictures of a folder from those at another time; one that is gone has no size."""
    state: PicturesState = {}
    for picture in pictures:
        state[picture.name] = (picture.caption,)
        with contextlib.suppress(OSError):
            status = picture.path.stat()
            state[picture.name] += (status.st_size, status.st_mtime_ns, status.st_ino)
    return state


def require_unchanged(folder: Path, before: PicturesState) -> None:
    """Raise PhotoError when a photo came, went or changed since `before`: what was read would be of neither state."""
    after = state_of(list_pictures(folder).photos) if folder.is_dir() else {}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            what = "removed" if name not in after else "changed" if name in before else "added"
            raise PhotoError(
                f"{name} was {what} in {folder} while the photos were read; nothing was written: "
                "run the same command again when the folder is complete"
            )


def content_hash(path: Path, most_bytes: int) -> str:
    """A picture's SHA-256; of one that cannot be read or is too long to be, a sentence in its place."""
    with contextlib.suppress(OSError):
        if not path.is_file():
            return "no file"
        length = path.stat().st_size
        return hash_file(path) if length <= most_bytes else f"{length} bytes"
    return "not readable"


def refuse_to_replace(out: Path, photos: Path, progress: Progress) -> None:
    """The old photo set is replaced whole, so nothing else may lie there, least of all the photos themselves.

    A set whose manifest is damaged is still recognised, by holding nothing that is not named as limner names it.
    """
    require_folder(out)
    if photos.resolve().is_relative_to(out.resolve()):
        raise DiskError(f"{out} holds the photos themselves and would be replaced; choose another --out")
    if not out.is_dir():
        return
    manifest = read_manifest(out)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    names = [name for name in names if not name.startswith(".")]
    if manifest is None and _looks_like_a_set(names):
        progress.notice(f"{out / MANIFEST} is damaged: the photo set is made again")
        return
    ours = {MANIFEST, *(manifest.files if manifest and manifest.stage == STAGE else ())}
    foreign = [name for name in names if name not in ours]
    if foreign:
        raise DiskError(f"{out} holds {foreign[0]}, which would be lost; choose another --out or move it away")


def _looks_like_a_set(names: list[str]) -> bool:
    """Manifest, contact sheet, crops numbered from 0000 without a gap, and nothing else."""
    crops = [name for name in names if name not in (MANIFEST, CONTACT_SHEET)]
    numbered = [f"{index:04d}.png" for index in range(len(crops))]
    return {MANIFEST, CONTACT_SHEET} <= {*names} and sorted(crops) == sorted(numbered)
