"""The pets and their styles straight from DATA, for checks that need nothing a training left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miniature.pictures import load_picture, read_rows
from miniature.styles import STYLES


@dataclass(frozen=True)
class Pets:
    """Photos of one split, in the order of pets256.csv."""

    photos: np.ndarray  # (N, 256, 256, 3) uint8
    index: list[int]
    """Row in pets256.csv, which chooses a style's flakes and leaves."""
    breed: list[int]
    breeds: list[tuple[str, str]]
    """(species, breed), in the order of the labels."""

    def styled(self, style: str) -> np.ndarray:
        """Every photo in one style, as the training pictures were made."""
        pairs = zip(self.photos, self.index, strict=True)
        return np.stack([STYLES[style](photo, index) for photo, index in pairs])

    def thinned(self, count: int | None) -> Pets:
        """So many of them, evenly spaced; all without a number."""
        if count is None or count >= len(self.index):
            return self
        chosen = np.linspace(0, len(self.index) - 1, count).astype(int)
        index, breed = ([values[row] for row in chosen] for values in (self.index, self.breed))
        return Pets(self.photos[chosen], index, breed, self.breeds)


def load_pets(data: Path, split: str) -> Pets:
    """The pictures of "train" or "val"."""
    rows = read_rows(data, None)
    breeds = sorted({(row["species"], row["breed"]) for row in rows})
    chosen = [(index, row) for index, row in enumerate(rows) if row["split"] == split]
    with ThreadPoolExecutor(8) as pool:
        photos = np.stack(list(pool.map(lambda pair: load_picture(data / "pets256" / pair[1]["file"]), chosen)))
    labels = [breeds.index((row["species"], row["breed"])) for _, row in chosen]
    return Pets(photos, [index for index, _ in chosen], labels, breeds)
