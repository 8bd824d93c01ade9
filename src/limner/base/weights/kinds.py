"""What a file is by its first bytes, regardless of its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["safetensors", "zip", "pickle", "not weights"]

FIRST_BYTES = 512
PICKLE_PROTOCOLS = (2, 3, 4, 5)
LFS_POINTER = b"version https://git-lfs"
PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")
BEGINNINGS = {
    LFS_POINTER: "is a Git LFS pointer, not the file itself; run: git lfs pull",
    b"\x89PNG": "is a PNG picture, not a .safetensors file",
    b"\xff\xd8\xff": "is a JPEG picture, not a .safetensors file",
    b"GIF8": "is a GIF picture, not a .safetensors file",
    b"GGUF": "is a GGUF file of quantised weights, not a .safetensors file",
    b"\x1f\x8b": "is a gzip archive; unpack it first",
    b"7z\xbc\xaf": "is a 7z archive; unpack it first",
}


@dataclass(frozen=True)
class FileKind:
    """A kind, and for a file without weights a sentence that says what it is instead."""

    kind: Kind
    what: str = ""


def kind_of(path: Path) -> FileKind:
    """What a file is, from its first 512 bytes; "not weights" comes with a sentence and what to do."""
    with path.open("rb") as file:
        first = file.read(FIRST_BYTES)
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        return FileKind("not weights", "is a web page (HTML), not a model; the download needs a login or another link")
    if what := next((what for magic, what in BEGINNINGS.items() if first.startswith(magic)), ""):
        return FileKind("not weights", what)
    if len(first) < 9:
        count = len(first)
        problem = f"is truncated: it has {count} bytes; download it again" if count else "is empty; download it again"
        return FileKind("not weights", problem)
    kinds: dict[Kind, bool] = {
        "zip": first.startswith(b"PK\x03\x04"),
        "safetensors": first[8:9] == b"{",
        "pickle": first[0] == 0x80 and first[1] in PICKLE_PROTOCOLS,
    }
    unknown = FileKind("not weights", "is neither a .safetensors file nor a checkpoint that limner knows")
    return next((FileKind(kind) for kind, holds in kinds.items() if holds), unknown)
