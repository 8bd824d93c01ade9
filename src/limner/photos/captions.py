"""Captions beside photos: text files as kohya's trainers and others have them, and tables as Hugging Face has them.

A text file belongs to the photo of its name: `a.txt`, `a.caption` or `a.jpg.txt` to `a.jpg`. Where no photo has exactly
that name, one that differs from it only in case or in Unicode form has it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.errors import PhotoError
from limner.escaping import printable, shown_name

ENDINGS = (".txt", ".caption")  # the first has priority
TABLES = ("metadata.jsonl", "metadata.csv")  # of Hugging Face's image folders
TEXT_COLUMNS = ("text", "caption")
MOST_CAPTION_BYTES = 10_000
MOST_TABLE_BYTES = 20_000_000
NAMED_ROWS = 3  # of a table's rows that match no photo
MARKS = (  # the longer one first: UTF-32's mark starts with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@dataclass
class Captions:
    """Captions by photo, notes on those that a photo has and that cannot be used, and files that belong to no photo."""

    texts: dict[Path, str] = field(default_factory=dict)
    notes: dict[Path, list[str]] = field(default_factory=dict)
    unused: list[tuple[Path, str]] = field(default_factory=list)


def is_caption(path: Path) -> bool:
    """Whether a file may be a caption, or a table of them."""
    return path.suffix.lower() in ENDINGS or path.name.lower() in TABLES


def folded(name: str) -> str:
    """A name without differences of case and of Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def read_captions(files: Sequence[Path], photos: Mapping[Path, str]) -> Captions:
    """The captions in `files` for `photos`, each with its name as tables name it; a text file has priority over a row.

    Raises PhotoError for a table that cannot be read or has a line that is none of its rows.
    """
    captions = Captions()
    of_photo: dict[Path, list[Path]] = {}
    for file in files:
        if file.name.lower() in TABLES:
            _add_rows(captions, file, photos)
        else:
            owners, why = _owners(file, [photo for photo in photos if photo.parent == file.parent])
            for photo in owners:
                of_photo.setdefault(photo, []).append(file)
            captions.unused += [(file, why)] if why else []
    for photo, candidates in of_photo.items():
        _add_text(captions, photo, sorted(candidates, key=lambda file: _priority(file, photo)))
    return captions


def _owners(file: Path, photos: Sequence[Path]) -> tuple[list[Path], str]:
    """The photos that a text file is the caption of, or why it is none's."""
    stem = file.name[: -len(file.suffix)]
    if exact := [photo for photo in photos if stem in (photo.stem, photo.name)]:
        return exact, ""
    alike = [photo for photo in photos if folded(stem) in (folded(photo.stem), folded(photo.name))]
    if len({photo.stem for photo in alike}) > 1:
        return [], f"it could be the caption of {' or of '.join(shown_name(photo.name) for photo in alike)}"
    return alike, "" if alike else "no photo has its name"


def _priority(file: Path, photo: Path) -> tuple[bool, int, str]:
    stem = file.name[: -len(file.suffix)]
    return stem not in (photo.stem, photo.name), ENDINGS.index(file.suffix.lower()), file.name


def _add_text(captions: Captions, photo: Path, candidates: Sequence[Path]) -> None:
    """The first file with a text is used; what is wrong with the others is noted."""
    notes, used = captions.notes.setdefault(photo, []), None
    for file in candidates:
        name = shown_name(file.name)
        if used:
            notes.append(f"{name} is not used: {shown_name(used.name)} is its caption")
            continue
        try:
            captions.texts[photo] = _caption_in(file)
            used = file
        except ValueError as error:
            notes.append(f"{name} {error} and is not used as its caption")
        except OSError as error:
            notes.append(f"{name} cannot be read ({error.strerror}) and is not used as its caption")


def _caption_in(file: Path) -> str:
    """The text of a file on one line. Raises ValueError, which says why it is no caption."""
    if not file.is_file():
        raise ValueError("is not a regular file")
    with file.open("rb") as stream:
        content = stream.read(MOST_CAPTION_BYTES + 1)
    if len(content) > MOST_CAPTION_BYTES:
        raise ValueError("is too long for a caption")
    text = " ".join(decoded(content).split())
    if not text:
        raise ValueError("is empty")
    return text


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 with a mark. Raises ValueError for anything else."""
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8, nor UTF-16 with a mark,") from None
    if "\0" in text:
        raise ValueError("is not text")
    return text


def _add_rows(captions: Captions, table: Path, photos: Mapping[Path, str]) -> None:
    """Give the rows of a table to the photos that they name."""
    by_name = {name: photo for photo, name in photos.items()}
    by_folded: dict[str, list[Path]] = {}
    for photo, name in photos.items():
        by_folded.setdefault(folded(name), []).append(photo)
    strangers, without_text = [], []
    for name, text in _rows(table):
        plain = name.replace("\\", "/").removeprefix("./")
        alike = by_folded.get(folded(plain), [])
        photo = by_name.get(plain) or (alike[0] if len(alike) == 1 else None)
        if photo is None:
            strangers.append(name)
        elif text is None:
            without_text.append(name)
        elif len(text.encode(errors="replace")) > MOST_CAPTION_BYTES:
            captions.notes.setdefault(photo, []).append(f"its row of {table.name} is too long for a caption")
        else:
            captions.texts[photo] = text
    for names, what in ((strangers, "match no photo"), (without_text, "have no text")):
        if names:
            captions.unused.append((table, f"{len(names)} of its rows {what}: {_some(names)}"))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(shown_name(name[:60]) for name in names[:NAMED_ROWS])
    return shown + (", …" if len(names) > NAMED_ROWS else "")


def _rows(table: Path) -> Iterator[tuple[str, str | None]]:
    """Name and text of each row; the text is None where the row has none."""
    try:
        size = table.stat().st_size
        if size > MOST_TABLE_BYTES:
            raise ValueError(f"has {size / 1e6:.0f} MB; at most {MOST_TABLE_BYTES / 1e6:.0f} MB are read")
        content = decoded(table.read_bytes())
    except (OSError, ValueError) as error:
        raise PhotoError(f"{table} cannot be read ({error}); correct or remove it") from None
    if table.suffix.lower() == ".csv":
        yield from _rows_of_csv(table, content)
    else:
        yield from _rows_of_json_lines(table, content)


def _rows_of_csv(table: Path, content: str) -> Iterator[tuple[str, str | None]]:
    try:
        reader = csv.DictReader(io.StringIO(content, newline=""))
        if "file_name" not in (reader.fieldnames or ()):
            raise PhotoError(f"{table} has no column file_name; name its columns file_name,text in its first line")
        for row in reader:
            yield row["file_name"] or "", _text_of(row)
    except csv.Error as error:
        raise PhotoError(f"{table} cannot be read ({error}); correct or remove it") from None


def _rows_of_json_lines(table: Path, content: str) -> Iterator[tuple[str, str | None]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield str(row["file_name"]), _text_of(row)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise PhotoError(
                f"{table}, line {number}: {printable(line[:60])!r} is not a caption; "
                'write {"file_name": "a.jpg", "text": "…"}'
            ) from None


def _text_of(row: Mapping[str, Any]) -> str | None:
    text = next((row[column] for column in TEXT_COLUMNS if row.get(column) is not None), None)
    return None if text is None else " ".join(printable(str(text)).split())
