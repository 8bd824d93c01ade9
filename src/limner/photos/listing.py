"""Lists the photos of a folder, their captions, and what folder names in kohya's convention say.

kohya's trainers take folders such as `10_sks woman`: how often each of its photos occurs in an epoch, then identifier
and class noun. A folder of such folders is recognised, and a single one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from limner.decoding import HEIF_EXTRA, heif_is_readable
from limner.errors import PhotoError
from limner.escaping import shown_name
from limner.photos.captions import is_caption, read_captions
from limner.photos.focus_file import FOCUS_FILE

READABLE = {
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif",
}  # fmt: skip
HEIF = {".heic", ".heif", ".hif"}
PICTURES_OF_OTHER_KINDS = {
    ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jpf", ".jxl", ".nef",
    ".orf", ".pcx", ".pef", ".pgm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".sr2", ".svg", ".tga", ".xcf",
}  # fmt: skip
KOHYA_NAME = re.compile(r"([1-9][0-9]{0,3})_(.*\S)\s*")
OF_THE_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}  # nobody put these there
NOT_READ = "it is no picture and no caption"


@dataclass(frozen=True)
class Refusal:
    """A photo that cannot be used or a file that is not, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class KohyaName:
    """What a folder name such as `10_sks woman` says; the class noun is empty if there is only one word."""

    repeats: int
    identifier: str
    class_noun: str


@dataclass(frozen=True)
class Listed:
    """A photo: its name below the listed folder as it is shown, its caption if it has one, how often it counts."""

    path: Path
    name: str
    caption: str = ""
    repeats: int = 1
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """The photos of a folder in the order of their names, pictures of kinds that limner does not read, and the rest.

    The rest is what is neither used nor a picture: other files, captions and rows that match no photo, folders.
    """

    photos: list[Listed]
    refused: list[Refusal]
    kohya: list[KohyaName] = field(default_factory=list)
    unused: list[Refusal] = field(default_factory=list)


def kohya_name(folder: Path) -> KohyaName | None:
    """What the name of a folder says in kohya's convention, or None."""
    match = KOHYA_NAME.fullmatch(folder.name)
    if match is None:
        return None
    identifier, _, class_noun = match[2].partition(" ")
    return KohyaName(int(match[1]), identifier, class_noun.strip())


def named_subject(folder: Path) -> KohyaName | None:
    """What the names of `folder`, or of kohya's folders in it, agree on as the subject; None if they do not."""
    if not folder.is_dir():
        return None
    inner = [kohya_name(path) for path in _entries(folder) if path.is_dir()]
    names = [name for name in (kohya_name(folder.resolve()), *inner) if name is not None and name.class_noun]
    return names[0] if len({(name.identifier, name.class_noun) for name in names}) == 1 else None


def list_photos(folder: Path) -> Listing:
    """List the photos of `folder` and of kohya's folders in it; of the rest, all but hidden files is named.

    Raises PhotoError if the folder does not exist, cannot be read or holds no picture, and for captions that cannot be
    parsed.
    """
    if not folder.exists():
        raise PhotoError(f"there is no folder {folder}; name a folder that holds photos of the subject")
    if not folder.is_dir():
        raise PhotoError(f"{folder} is a file; name the folder that holds the photos")
    listing = list_pictures(folder)
    if not listing.photos and not listing.refused:
        below = f" ({listing.unused[0].source}: {listing.unused[0].reason})" if listing.unused else ""
        raise PhotoError(f"{folder} holds no photo{below}; put PNG, JPEG, WebP, AVIF or TIFF files there")
    return listing


def list_pictures(folder: Path) -> Listing:
    """What a folder that exists holds, which may be nothing. Raises PhotoError as `list_photos`."""
    found = _Files()
    name_of_folder = kohya_name(folder.resolve())
    _sort(folder, "", found)
    for inner in _in_name_order(path for path in _entries(folder) if path.is_dir()):
        if kohya_name(inner):
            _sort(inner, f"{shown_name(inner.name)}/", found)
        else:
            found.unused += _unread_folder(inner, "")
    captions = read_captions(found.captions, {path: path.relative_to(folder).as_posix() for path in found.photos})
    listing = Listing([], found.refused, unused=found.unused)
    for path, called in found.photos.items():
        name = name_of_folder if path.parent == folder else kohya_name(path.parent)
        repeats, notes = name.repeats if name else 1, captions.notes.get(path, [])
        listing.photos.append(Listed(path, called, captions.texts.get(path, ""), repeats, notes))
        if name and name not in listing.kohya:
            listing.kohya.append(name)
    for file, why in captions.unused:
        listing.unused.append(Refusal(shown_name(file.relative_to(folder).as_posix()), why))
    listing.unused.sort(key=lambda refusal: refusal.source)
    return listing


@dataclass
class _Files:
    """The files of a folder by kind, with the names by which they are shown."""

    photos: dict[Path, str] = field(default_factory=dict)
    captions: list[Path] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    unused: list[Refusal] = field(default_factory=list)


def _sort(folder: Path, prefix: str, found: _Files) -> None:
    """Add the files of one folder."""
    for path in _in_name_order(path for path in _entries(folder) if prefix or not path.is_dir()):
        ending, called = path.suffix.lower(), prefix + shown_name(path.name)
        if path.is_dir():
            found.unused += _unread_folder(path, prefix)
        elif ending in READABLE or (ending in HEIF and heif_is_readable()):
            found.photos[path] = called
        elif ending in HEIF:
            found.refused.append(Refusal(called, HEIF_EXTRA))
        elif ending in PICTURES_OF_OTHER_KINDS:
            found.refused.append(Refusal(called, f"{ending} is not read; save it as PNG or JPEG"))
        elif is_caption(path):
            found.captions.append(path)
        elif path.name != FOCUS_FILE and path.name.lower() not in OF_THE_SYSTEM:
            found.unused.append(Refusal(called, NOT_READ))


def _unread_folder(folder: Path, prefix: str) -> list[Refusal]:
    """Why a folder among the photos is not read; nothing of one that a system made."""
    if folder.name.lower() in OF_THE_SYSTEM:
        return []
    called = f"{prefix}{shown_name(folder.name)}/"
    try:
        count = sum(path.suffix.lower() in READABLE | HEIF for path in _entries(folder))
    except PhotoError:
        count = 0
    holds = f"a folder with {count} pictures" if count else "a folder"
    return [Refusal(called, f"{holds}; of folders only those named as 10_sks woman (kohya's) are read")]


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise PhotoError(f"{folder} cannot be read ({error.strerror}); correct its permissions") from None


def _in_name_order(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (unicodedata.normalize("NFC", path.name), path.name))
