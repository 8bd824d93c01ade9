"""Which files of a folder are photos."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from limner.decoding import HEIF_EXTRA, heif_is_readable
from limner.errors import PhotoError

READABLE = {
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif",
}  # fmt: skip
HEIF = {".heic", ".heif", ".hif"}
PICTURES_OF_OTHER_KINDS = {
    ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jpf", ".jxl", ".nef",
    ".orf", ".pcx", ".pef", ".pgm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".sr2", ".svg", ".tga", ".xcf",
}  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """A photo that cannot be used, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The photos of a folder in the order of their names, and pictures of kinds that limner does not read."""

    photos: list[Path]
    refused: list[Refusal]


def list_photos(folder: Path) -> Listing:
    """List the photos of `folder`; dotfiles, captions and all else that is no picture are passed over.

    Raises PhotoError when the folder is not there, cannot be read or holds no picture at all.
    """
    if not folder.exists():
        raise PhotoError(f"there is no folder {folder}; name a folder that holds photos of the subject")
    if not folder.is_dir():
        raise PhotoError(f"{folder} is a file; name the folder that holds the photos")
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    except OSError as error:
        raise PhotoError(f"{folder} cannot be read ({error.strerror}); mend its permissions") from None
    listing = Listing([], [])
    for path in sorted(files, key=lambda path: (unicodedata.normalize("NFC", path.name), path.name)):
        ending = path.suffix.lower()
        if ending in READABLE or (ending in HEIF and heif_is_readable()):
            listing.photos.append(path)
        elif ending in HEIF:
            listing.refused.append(Refusal(path.name, HEIF_EXTRA))
        elif ending in PICTURES_OF_OTHER_KINDS:
            listing.refused.append(Refusal(path.name, f"{ending} is not read; save it as PNG or JPEG"))
    if not listing.photos and not listing.refused:
        raise PhotoError(f"{folder} holds no photo; put PNG, JPEG, WebP, AVIF or TIFF files there")
    return listing
