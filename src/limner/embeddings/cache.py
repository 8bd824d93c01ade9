"""Embeddings kept on disk by content: the same picture is never put through the same model twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.artifacts import hash_bytes, hash_file, write_whole
from limner.embeddings.crops import WHOLE, Crop, read_image
from limner.embeddings.embedder import ImageEmbedder

CHUNK = 32  # pictures held in memory at once
KEYS, VECTORS, FOUND = "keys", "vectors", "found"


@dataclass(frozen=True)
class Embedded:
    """Embeddings (N, D) of N pictures, and for each whether its crop was found (N,)."""

    vectors: Tensor
    found: Tensor


class EmbeddingCache:
    """A folder with one file for each model and crop, written whole; a damaged file counts as absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def embed(
        self,
        embedder: ImageEmbedder,
        files: Sequence[Path],
        crop: Crop = WHOLE,
        advance: Callable[[int], None] = lambda pictures: None,
    ) -> Embedded:
        """Embeddings of picture files, in their order; only what the cache lacks is computed."""
        store = self.folder / f"{_plain(embedder.name)}-{_plain(crop.name)}-{embedder.identity[:16]}.safetensors"
        known = _read(store)
        keys = [hash_file(file) for file in files]
        absent = {key: file for key, file in zip(keys, files, strict=True) if key not in known}
        advance(len(files) - len(absent))
        pending = list(absent.items())
        for start in range(0, len(pending), CHUNK):
            chunk = pending[start : start + CHUNK]
            crops = [crop.cut(read_image(file), embedder.size_px) for _, file in chunk]
            vectors = embedder.embed([image for image, _ in crops])
            for (key, _), vector, (_, found) in zip(chunk, vectors, crops, strict=True):
                known[key] = (vector, found)
            advance(len(chunk))
        if pending:
            _write(store, known)
        if not keys:
            return Embedded(embedder.embed([]), torch.empty(0, dtype=torch.bool))
        return Embedded(torch.stack([known[key][0] for key in keys]), torch.tensor([known[key][1] for key in keys]))


def _plain(name: str) -> str:
    """A name that can be a file's; those that had to change keep apart by a hash."""
    plain = "".join(letter if letter.isalnum() or letter in "-_@" else "-" for letter in name)[-60:]
    return plain if plain == name else f"{plain}-{hash_bytes(name.encode())[:6]}"


def _read(store: Path) -> dict[str, tuple[Tensor, bool]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = load_file(store)
        keys = [bytes(row).hex() for row in record[KEYS].numpy()]
        found = record[FOUND].tolist()
        return {key: (record[VECTORS][row], found[row]) for row, key in enumerate(keys)}
    except (OSError, SafetensorError, KeyError, IndexError):
        return {}


def _write(store: Path, known: dict[str, tuple[Tensor, bool]]) -> None:
    from safetensors.torch import save

    keys = np.array([list(bytes.fromhex(key)) for key in known], dtype=np.uint8)  # (N, 32)
    vectors = torch.stack([vector for vector, _ in known.values()])
    found = torch.tensor([found for _, found in known.values()])
    write_whole(store, save({KEYS: torch.from_numpy(keys), VECTORS: vectors, FOUND: found}))
