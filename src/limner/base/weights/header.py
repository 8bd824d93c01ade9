"""The header of a .safetensors file, read without trusting a number in it.

A file is: length of the header (8 bytes, little-endian), the header as JSON, the data. The header maps names to
{dtype, shape, data_offsets}, and "__metadata__" to texts (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.base.weights.kinds import kind_of
from limner.errors import WeightsError

MAX_HEADER_BYTES = 16 * 2**20  # SDXL's takes 0.3 MB; a longer one was made to exhaust memory
METADATA = "__metadata__"
MAX_DIMENSIONS = 16

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """A tensor's position: its bytes are [start, end) of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a file says it holds. If it is truncated, `missing_bytes` of it are missing."""

    path: Path
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    missing_bytes: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape."""
        return {name: entry.shape for name, entry in self.tensors.items()}

    def require_whole(self) -> Header:
        """This header, or WeightsError when the file is truncated."""
        if self.missing_bytes:
            raise WeightsError(
                f"{self.path} is truncated: {self.missing_bytes:,} bytes of its tensors are missing; download it again"
            )
        return self


def read_header(path: Path) -> Header:
    """Read and check a file's header. Reads no tensor and never more than the file holds.

    A file truncated in its data has `missing_bytes`. Raises WeightsError for every other fault: another format,
    truncated in the header, entries that contradict each other.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; check the spelling")
    file_kind = kind_of(path)
    if file_kind.kind in ("zip", "pickle"):
        raise WeightsError(f"{path} is a pickle, which can run code when it is read; see limner convert --allow-pickle")
    if file_kind.what:
        raise WeightsError(f"{path} {file_kind.what}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise _damaged(path, f"its header would take {length:,} bytes, at most {MAX_HEADER_BYTES:,} are read")
        if 8 + length > size:
            raise WeightsError(
                f"{path} is truncated in its header: {size:,} of {8 + length:,} bytes; download it again"
            )
        raw = _parsed(path, file.read(length))
    metadata = _metadata(path, raw.pop(METADATA, {}))
    tensors = {name: _entry(path, name, entry, 8 + length) for name, entry in raw.items()}
    end = _require_no_gaps(path, tensors, 8 + length)
    if end < size:
        raise _damaged(path, f"{size - end:,} bytes follow the last tensor")
    return Header(path, tensors, metadata, max(0, end - size))


def _damaged(path: Path, why: str) -> WeightsError:
    shown = "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in why
    )  # a name may hold anything
    return WeightsError(f"{path} is a damaged .safetensors file: {shown}; download or create it again")


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            raise ValueError("a name occurs twice")
        return names

    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({str(error).splitlines()[0][:100]})") from None
    if not isinstance(parsed, dict):
        raise _damaged(path, "its header is not a JSON object")
    return parsed


def _metadata(path: Path, raw: Any) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise _damaged(path, "its metadata are not all texts")
    return raw


def _entry(path: Path, name: str, raw: Any, data_start: int) -> TensorEntry:
    fields: dict[str, Any] = raw if isinstance(raw, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    shown = name[:80]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _damaged(path, f"{shown} has the unknown dtype {str(dtype)[:40]}")
    if not isinstance(shape, list) or not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _damaged(path, f"{shown} has the impossible shape {str(shape)[:60]}")
    if not isinstance(offsets, list) or not _are_sizes(offsets) or len(offsets) != 2:
        raise _damaged(path, f"{shown} has the impossible offsets {str(offsets)[:60]}")
    if offsets[1] - offsets[0] != math.prod(shape) * ITEM_BYTES[dtype]:
        raise _damaged(path, f"{shown} is {dtype} of shape {str(shape)[:60]}, which its offsets do not hold")
    return TensorEntry(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_sizes(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _require_no_gaps(path: Path, tensors: Mapping[str, TensorEntry], data_start: int) -> int:
    """Where the last tensor ends; every one must begin where another ends."""
    end = data_start
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            raise _damaged(path, f"{name[:80]} {'overlaps another tensor' if entry.start < end else 'follows a gap'}")
        end = entry.end
    return end


def numbers_in(path: Path) -> int:
    """How many numbers a file holds. Raises WeightsError as `read_header`."""
    return sum(math.prod(entry.shape) for entry in read_header(path).tensors.values())
