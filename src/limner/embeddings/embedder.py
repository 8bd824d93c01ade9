"""The interface of every embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

Pixels = np.ndarray  # uint8, (H, W, 3), sRGB


class ImageEmbedder(Protocol):
    """Turns pictures into vectors whose cosine says how similar two pictures are."""

    @property
    def name(self) -> str:
        """Its name in a study."""
        ...

    @property
    def identity(self) -> str:
        """SHA-256 over weights and configuration: equal identities give equal embeddings."""
        ...

    @property
    def size_px(self) -> int:
        """Preferred side of the square pictures that it embeds."""
        ...

    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Embeddings (N, D) of unit norm, fp32 on the CPU, of N pictures of any size."""
        ...


class PairEmbedder(ImageEmbedder, Protocol):
    """An image embedder whose space also holds texts."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of unit norm, fp32 on the CPU, in the pictures' space."""
        ...
