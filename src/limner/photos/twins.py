"""Noticing photos that show nearly the same: they would weigh double in training."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE_PX = 24
NEARLY_THE_SAME = 0.98  # correlation of small grey pictures


class Twins:
    """Remembers the crops it has seen."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, np.ndarray]] = []
        self.names: set[str] = set()  # of photos that nearly repeat another, and of those

    def notes(self, name: str, crop: np.ndarray) -> list[str]:
        """A note that names the earlier photo that `crop` (S, S, 3) nearly repeats, if any; remembers `crop`."""
        small = Image.fromarray(crop).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
        values = np.asarray(small, dtype=np.float64).ravel()
        values -= values.mean()
        norm = float(np.linalg.norm(values))
        unit = values / norm if norm > 0 else values
        found = [other for other, seen in self._seen if float(unit @ seen) > NEARLY_THE_SAME]
        self._seen.append((name, unit))
        self.names.update([name, *found] if found else [])
        return [f"nearly the same as {found[0]}"] if found else []
