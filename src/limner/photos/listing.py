"""Lists the photos of a folder, their captions, and what folder names in kohya's convention say.

kohya's trainers take folders such as `10_sks woman`: how often each of its photos occurs in an epoch, then identifier
and class noun. A folder of such folders is recognised, and a single one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
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
KOHYA_NAME = re.compile(r"([1-9][0-9]{0,3})_(.*\S)\s*")
CAPTIONS = "metadata.jsonl"  # of Hugging Face's image folders
MOST_CAPTION_BYTES = 10_000


@dataclass(frozen=True)
class Refusal:
    """A photo that cannot be used, and why."""

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
    """A photo: its name below the listed folder, its caption if it has one, how often it counts."""

    path: Path
    name: str
    caption: str = ""
    repeats: int = 1
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """The photos of a folder in the order of their names, and pictures of kinds that limner does not read."""

    photos: list[Listed]
    refused: list[Refusal]
    kohya: list[KohyaName] = field(default_factory=list)


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
    """List the photos of `folder` and of kohya's folders in it; hidden files and other kinds of files are ignored.

    Raises PhotoError if the folder does not exist, cannot be read or holds no picture, and for captions that cannot be
    parsed.
    """
    if not folder.exists():
        raise PhotoError(f"there is no folder {folder}; name a folder that holds photos of the subject")
    if not folder.is_dir():
        raise PhotoError(f"{folder} is a file; name the folder that holds the photos")
    listing = Listing([], [])
    name_of_folder = kohya_name(folder.resolve())
    _add(listing, folder, "", name_of_folder)
    for inner in _in_name_order(path for path in _entries(folder) if path.is_dir()):
        if name := kohya_name(inner):
            _add(listing, inner, f"{inner.name}/", name)
    if not listing.photos and not listing.refused:
        raise PhotoError(f"{folder} holds no photo; put PNG, JPEG, WebP, AVIF or TIFF files there")
    return listing


def _add(listing: Listing, folder: Path, prefix: str, name: KohyaName | None) -> None:
    """Add the files of one folder."""
    files = _in_name_order(path for path in _entries(folder) if not path.is_dir())
    captions = _captions_of(folder / CAPTIONS)
    before = len(listing.photos)
    for path in files:
        ending, called = path.suffix.lower(), prefix + path.name
        if ending in READABLE or (ending in HEIF and heif_is_readable()):
            caption, notes = _caption_file(path)
            caption = caption or captions.get(path.name, "")
            listing.photos.append(Listed(path, called, caption, name.repeats if name else 1, notes))
        elif ending in HEIF:
            listing.refused.append(Refusal(called, HEIF_EXTRA))
        elif ending in PICTURES_OF_OTHER_KINDS:
            listing.refused.append(Refusal(called, f"{ending} is not read; save it as PNG or JPEG"))
    if name and len(listing.photos) > before:
        listing.kohya.append(name)


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise PhotoError(f"{folder} cannot be read ({error.strerror}); correct its permissions") from None


def _in_name_order(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (unicodedata.normalize("NFC", path.name), path.name))


def _caption_file(photo: Path) -> tuple[str, list[str]]:
    """The text of `a.txt` for `a.jpg`, on one line; or none, and a note that says why it is not used."""
    path = photo.with_suffix(".txt")
    try:
        if not path.is_file():
            return "", []
        with path.open("rb") as file:
            content = file.read(MOST_CAPTION_BYTES + 1)
        if len(content) > MOST_CAPTION_BYTES:
            return "", [f"{path.name} is too long for a caption and is not used"]
        return " ".join(content.decode("utf-8-sig").split()), []
    except UnicodeDecodeError:
        return "", [f"{path.name} is not UTF-8 and is not used as its caption"]
    except OSError as error:
        return "", [f"{path.name} cannot be read ({error.strerror}) and is not used as its caption"]


def _captions_of(path: Path) -> dict[str, str]:
    """Captions by file name from JSON lines with `file_name` and `text`."""
    if not path.is_file():
        return {}
    captions = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PhotoError(f"{path} cannot be read ({error}); correct or remove it") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row.get("text", "")
            captions[str(name)] = " ".join(str(text).split())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PhotoError(
                f'{path}, line {number}: {line[:60]!r} is not a caption; write {{"file_name": "a.jpg", "text": "…"}}'
            ) from None
    return captions
