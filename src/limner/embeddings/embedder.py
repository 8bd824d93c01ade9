"""What every embedder offers, whichever model is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

Pixels = np.ndarray  # uint8, (H, W, 3), sRGB


class ImageEmbedder(Protocol):
    """Turns pictures into vectors whose cosine says how alike two pictures are."""

    @property
    def name(self) -> str:
        """What the study calls it."""
        ...

    @property
    def identity(self) -> str:
        """SHA-256 over weights and configuration: equal identities give equal embeddings."""
        ...

    @property
    def size_px(self) -> int:
        """Side of the square pictures it likes to be given."""
        ...

    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Embeddings (N, D) of unit norm, fp32 on the CPU, of N pictures of any size."""
        ...


class PairEmbedder(ImageEmbedder, Protocol):
    """An image embedder whose space also holds texts."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of unit norm, fp32 on the CPU, in the pictures' space."""
        ...
