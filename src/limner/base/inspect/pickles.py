"""Names, shapes and types of the tensors in a torch checkpoint, read from its pickle without running it.

The pickle is split into its instructions (`pickletools`), none of which is executed: a name is a text, followed by the
storage's type and the integers of the shape.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from limner.errors import WeightsError

MAX_PICKLE_BYTES = 16 * 2**20  # of the directory of tensors, not of their data
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
HARMLESS = ("torch", "collections OrderedDict", "numpy", "_codecs encode")
PICKLES_IN_A_ROW = 4
TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"}


@dataclass
class PickledTensors:
    """What a pickle says it holds; `unexpected_calls` are functions it would call that no weights need."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    unexpected_calls: list[str] = field(default_factory=list)


def read_pickled(path: Path) -> PickledTensors:
    """Read the directory of a torch checkpoint (zip or plain pickle). Raises WeightsError for a damaged one."""
    try:
        return _scanned(io.BytesIO(_directory(path)))
    except (ValueError, OSError, KeyError, IndexError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WeightsError(f"{path} is a damaged or truncated checkpoint ({error}); download it again") from None


def _directory(path: Path) -> bytes:
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise zipfile.BadZipFile("truncated: the archive's directory at its end is not there")
            file.seek(0)
            return file.read(min(size, MAX_PICKLE_BYTES))
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().rsplit("/", 1)[-1] == "data.pkl"]
        if len(entries) != 1:
            raise ValueError("an archive without the one data.pkl that torch writes")
        if entries[0].compress_type != zipfile.ZIP_STORED:  # torch does not compress; a bomb does
            raise ValueError("its directory is compressed, which torch's never is")
        if entries[0].file_size > min(size, MAX_PICKLE_BYTES):
            raise ValueError(f"its directory takes {entries[0].file_size:,} bytes")
        with archive.open(entries[0]) as file:
            return file.read(entries[0].file_size)


INTEGERS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"}
NOT_A_NAME = {"storage", "cpu", "cuda", "module"}


def _scanned(content: io.BytesIO) -> PickledTensors:
    """The first pickle in a sequence that holds tensors: torch's old format has three short ones before it."""
    tensors = PickledTensors()
    for _ in range(PICKLES_IN_A_ROW):
        if tensors.shapes or not content.getbuffer()[content.tell() : content.tell() + 1]:
            break
        _scan(content, tensors)
    return tensors


def _scan(content: io.BytesIO, tensors: PickledTensors) -> None:
    """Follow the names through the instructions. Each tensor is its name, its storage's type, then its integers."""
    memo: dict[int, str] = {}
    name, latest, storage = "", "", ""
    integers: list[int] | None = None
    for operation, argument, _ in pickletools.genops(content):
        kind = operation.name
        if "UNICODE" in kind:
            latest = str(argument)
            name = latest if _may_name(latest) else name
        elif kind in ("GLOBAL", "STACK_GLOBAL", "INST"):
            latest = str(argument or f"? {latest}")
            _note_unexpected(tensors, latest)
        elif kind in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = latest  # type: ignore[arg-type]
        elif kind in ("BINGET", "LONG_BINGET", "GET"):
            latest = memo.get(int(argument), "")  # type: ignore[arg-type]
        elif kind in ("BINPERSID", "PERSID"):
            integers = []
        elif integers is not None and kind in INTEGERS:
            integers.append(int(argument))  # type: ignore[arg-type]
        elif integers is not None and kind in TUPLES:
            tensors.shapes[name], tensors.dtypes[name] = (
                tuple(integers[1:]),
                storage,
            )  # the first: offset in the storage
            integers = None
        storage = STORAGES.get(latest.rsplit(" ", 1)[-1], storage)


def _may_name(text: str) -> bool:
    return text not in NOT_A_NAME and not text.isdigit() and not text.startswith("cuda:")


def _note_unexpected(tensors: PickledTensors, called: str) -> None:
    if not called.startswith(HARMLESS) and called[:100] not in tensors.unexpected_calls:
        tensors.unexpected_calls.append(called[:100])
