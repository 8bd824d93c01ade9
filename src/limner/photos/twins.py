"""Detects near-duplicate photos: they would count twice in training."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE_PX = 24
NEARLY_THE_SAME = 0.98  # correlation of small grey pictures


def small_copy(crop: np.ndarray) -> np.ndarray:
    """A small copy of a crop (H, W, 3) uint8 for comparisons: (576,) greys about their mean, of unit norm."""
    small = Image.fromarray(crop).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float64).ravel()
    values -= values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 0 else values


class Twins:
    """Remembers the crops it has seen."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, np.ndarray]] = []
        self.names: set[str] = set()  # of photos that nearly repeat another, and of those

    def notes(self, name: str, small: np.ndarray) -> list[str]:
        """A note that names the earlier photo that this one, by its small copy, nearly repeats; remembers it."""
        repeated = [earlier for earlier, seen in self._seen if float(small @ seen) > NEARLY_THE_SAME]
        self._seen.append((name, small))
        self.names.update([name, *repeated] if repeated else [])
        return [f"nearly the same as {repeated[0]}"] if repeated else []
