"""Embeddings kept on disk by content: the same picture or text is never embedded twice by the same model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.artifacts import hash_bytes, hash_file, write_whole
from limner.embeddings.crops import WHOLE, Crop, read_image
from limner.embeddings.embedder import ImageEmbedder, PairEmbedder, Pixels
from limner.embeddings.heads import single_threaded_opencv

CHUNK = 64  # pictures embedded at once; as many more are prepared in memory
MOST_READERS = 16
TEXTS = "=texts"  # no crop's name holds "="
KEYS, VECTORS, FOUND, SQUARES = "keys", "vectors", "found", "squares"
NO_SQUARE = (-1, -1, -1, -1)


@dataclass(frozen=True)
class Embedded:
    """Embeddings (N, D) of N pictures, for each whether its crop was found (N,), and its square in px (N, 4), -1 for
    none."""

    vectors: Tensor
    found: Tensor
    squares: Tensor


@dataclass
class EmbeddingSeconds:
    """Seconds that embedding took.

    `decode` and `cut` are sums over threads that work side by side; `hash`, `wait` (for those threads), `find` (heads,
    many pictures at once) and `embed` are the caller's and follow one another.
    """

    hash: float = 0.0
    decode: float = 0.0
    cut: float = 0.0
    wait: float = 0.0
    find: float = 0.0
    embed: float = 0.0


@dataclass(frozen=True)
class _Cut:
    image: Pixels
    found: bool
    decode_seconds: float
    cut_seconds: float


@dataclass(frozen=True)
class _Entry:
    """What is kept of a picture or text."""

    vector: Tensor  # (D,)
    found: bool
    square: tuple[int, ...]


class EmbeddingCache:
    """A folder with a file for each model and crop, one for its texts, written atomically; damaged files are unused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.timings = EmbeddingSeconds()

    def embed(
        self,
        embedder: ImageEmbedder,
        files: Sequence[Path],
        crop: Crop = WHOLE,
        advance: Callable[[int], None] = lambda pictures: None,
    ) -> Embedded:
        """Embeddings of picture files, in their order; only those that are not cached are computed."""
        store = self._store(embedder, _plain(crop.name))
        cached = _read(store)
        began = time.perf_counter()
        keys = [hash_file(file) for file in files]
        self.timings.hash += time.perf_counter() - began
        absent = {key: file for key, file in zip(keys, files, strict=True) if key not in cached}
        advance(len(files) - len(absent))
        for chunk, cuts in self._cut(list(absent), [*absent.values()], crop, embedder.size_px):
            began = time.perf_counter()
            parts = crop.finished([cut.image for cut in cuts], [cut.found for cut in cuts], embedder.size_px)
            found = time.perf_counter()
            vectors = embedder.embed([part.image for part in parts])
            self.timings.find += found - began
            self.timings.embed += time.perf_counter() - found
            for key, vector, part in zip(chunk, vectors, parts, strict=True):
                cached[key] = _Entry(vector, part.found, part.square or NO_SQUARE)
            advance(len(chunk))
        if absent:
            _write(store, cached)
        if not keys:
            return Embedded(embedder.embed([]), torch.empty(0, dtype=torch.bool), torch.empty(0, 4, dtype=torch.int32))
        entries = [cached[key] for key in keys]
        return Embedded(
            torch.stack([entry.vector for entry in entries]),
            torch.tensor([entry.found for entry in entries]),
            torch.tensor([entry.square for entry in entries], dtype=torch.int32),
        )

    def embed_texts(self, pair: PairEmbedder, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of texts, in their order; only those that are not cached are computed."""
        store = self._store(pair, TEXTS)
        cached = _read(store)
        keys = [hash_bytes(text.encode()) for text in texts]
        absent = {key: text for key, text in zip(keys, texts, strict=True) if key not in cached}
        if absent:
            vectors = pair.embed_texts([*absent.values()])
            cached |= {key: _Entry(vector, True, NO_SQUARE) for key, vector in zip(absent, vectors, strict=True)}
            _write(store, cached)
        return torch.stack([cached[key].vector for key in keys]) if keys else pair.embed_texts([])

    def _store(self, embedder: ImageEmbedder, of_what: str) -> Path:
        return self.folder / f"{_plain(embedder.name)}-{of_what}-{embedder.identity[:16]}.safetensors"

    def _cut(
        self, keys: list[str], files: list[Path], crop: Crop, side_px: int
    ) -> Iterator[tuple[list[str], list[_Cut]]]:
        """Chunk by chunk the keys and crops; the next chunk is read and cut while the caller embeds this one."""

        def begin(start: int) -> list[Future[_Cut]]:
            return [self._readers.submit(_read_and_cut, file, crop, side_px) for file in files[start : start + CHUNK]]

        with single_threaded_opencv():
            ahead = begin(0)
            for start in range(0, len(files), CHUNK):
                current, ahead = ahead, begin(start + CHUNK)
                try:
                    yield keys[start : start + CHUNK], self._waited_for(current)
                except BaseException:
                    for future in (*current, *ahead):
                        future.cancel()
                    raise

    def _waited_for(self, futures: list[Future[_Cut]]) -> list[_Cut]:
        began = time.perf_counter()
        cuts = [future.result() for future in futures]
        self.timings.wait += time.perf_counter() - began
        self.timings.decode += sum(cut.decode_seconds for cut in cuts)
        self.timings.cut += sum(cut.cut_seconds for cut in cuts)
        return cuts

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        """Searching for heads takes most of the time, one processor each, and releases the interpreter's lock."""
        return ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1), "limner-reader")


def _read_and_cut(file: Path, crop: Crop, side_px: int) -> _Cut:
    began = time.perf_counter()
    image = read_image(file)
    decoded = time.perf_counter()
    cut, found = crop.cut(image, side_px)
    return _Cut(cut, found, decoded - began, time.perf_counter() - decoded)


def _plain(name: str) -> str:
    """A name that can be a file name; changed ones are made unique by a hash."""
    plain = "".join(letter if letter.isalnum() or letter in "-_@" else "-" for letter in name)[-60:]
    return plain if plain == name else f"{plain}-{hash_bytes(name.encode())[:6]}"


def _read(store: Path) -> dict[str, _Entry]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = load_file(store)
        keys = [bytes(row).hex() for row in record[KEYS].numpy()]
        found, squares = record[FOUND].tolist(), record[SQUARES].tolist()
        return {key: _Entry(record[VECTORS][row], found[row], tuple(squares[row])) for row, key in enumerate(keys)}
    except (OSError, SafetensorError, KeyError, IndexError):
        return {}


def _write(store: Path, cached: dict[str, _Entry]) -> None:
    from safetensors.torch import save

    keys = np.array([list(bytes.fromhex(key)) for key in cached], dtype=np.uint8)  # (N, 32)
    vectors = torch.stack([entry.vector for entry in cached.values()])
    found = torch.tensor([entry.found for entry in cached.values()])
    squares = torch.tensor([entry.square for entry in cached.values()], dtype=torch.int32)  # (N, 4)
    write_whole(store, save({KEYS: torch.from_numpy(keys), VECTORS: vectors, FOUND: found, SQUARES: squares}))
