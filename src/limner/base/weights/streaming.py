"""Tensors read from and written to .safetensors files one at a time: memory for the largest, at disk speed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from limner.artifacts.disk import whole_file
from limner.base.weights.header import ITEM_BYTES, METADATA, Header, TensorEntry, read_header
from limner.errors import WeightsError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
PIECE_BYTES = 8 * 2**20
HASH_KEY = "modelspec.hash_sha256"  # of everything after the header (Stability AI's ModelSpec)
NO_HASH = "0x" + "0" * 64


class TensorFile:
    """A complete .safetensors file, whose tensors are read on request."""

    def __init__(self, path: Path):
        self.header: Header = read_header(path).require_whole()
        self._file: BinaryIO | None = None

    def __enter__(self) -> TensorFile:
        self._file = self.header.path.open("rb")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def pieces(self, name: str) -> Iterator[bytes]:
        """A tensor's bytes in the file."""
        entry, file = self.header.tensors[name], self._opened()
        for start in range(entry.start, entry.end, PIECE_BYTES):
            file.seek(start)
            yield file.read(min(PIECE_BYTES, entry.end - start))

    def tensor(self, name: str) -> Tensor:
        """A tensor, read into newly allocated memory."""
        entry = self.header.tensors[name]
        if entry.dtype not in DTYPES:
            raise WeightsError(f"{self.header.path}: {name} is {entry.dtype}, which torch cannot compute with")
        content = bytearray(entry.end - entry.start)
        file = self._opened()
        file.seek(entry.start)
        file.readinto(content)  # type: ignore[attr-defined]
        flat = torch.frombuffer(content, dtype=DTYPES[entry.dtype]) if content else torch.empty(0)
        return flat.to(DTYPES[entry.dtype]).reshape(entry.shape)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError(f"{self.header.path} is not open")
        return self._file


@dataclass(frozen=True)
class NewTensor:
    """A tensor to be written: its description, and a function that gives its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: Callable[[], Iterable[bytes | memoryview]]

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes."""
        return TensorEntry(self.dtype, self.shape, 0, 0).count * ITEM_BYTES[self.dtype]


def from_tensor(dtype: torch.dtype, shape: tuple[int, ...], make: Callable[[], Tensor]) -> NewTensor:
    """A new tensor whose values are computed when it is written, cast to `dtype`."""

    def content() -> Iterator[memoryview]:
        values = make().detach().to("cpu", dtype).reshape(shape).contiguous()
        yield values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else memoryview(b"")

    return NewTensor(DTYPE_NAMES[dtype], tuple(shape), content)


def write_tensors(path: Path, tensors: Mapping[str, NewTensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file whole or not at all, tensor by tensor, with equal bytes for equal input.

    Where `metadata` has ModelSpec's hash it is filled in. Raises DiskError when the disk is full.
    """
    ordered = dict(sorted(tensors.items(), key=lambda item: (-ITEM_BYTES[item[1].dtype], item[0])))
    metadata = dict(sorted(({"format": "pt"} | dict(metadata)).items()))
    with whole_file(path) as file:
        file.write(_header(ordered, metadata))
        digest = hashlib.sha256() if HASH_KEY in metadata else None
        for name, tensor in ordered.items():
            written = 0
            for piece in tensor.content():
                written += file.write(piece)
                if digest:
                    digest.update(piece)
            if written != tensor.size_bytes:
                raise WeightsError(
                    f"{path}: {name} has {written} bytes instead of {tensor.size_bytes}; nothing was written"
                )
        if digest:
            file.seek(0)
            file.write(_header(ordered, metadata | {HASH_KEY: "0x" + digest.hexdigest()}))


def _header(tensors: Mapping[str, NewTensor], metadata: Mapping[str, str]) -> bytes:
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size_bytes
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    content = json.dumps({METADATA: metadata, **entries}, ensure_ascii=False, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)  # the format wants the data aligned
    return len(content).to_bytes(8, "little") + content
