"""Which part of a picture is embedded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from limner.embeddings.embedder import Pixels
from limner.embeddings.heads import HEAD_FINDER_VERSION, head_crop
from limner.errors import LimnerError

Cut = Callable[[Pixels, int], tuple[Pixels, bool]]  # (picture, side in pixels) -> (crop, whether its object was found)


@dataclass(frozen=True)
class Crop:
    """How a picture is cut before it is embedded; `name` stands for it in caches and keys."""

    name: str
    cut: Cut


def _cut_head(image: Pixels, side_px: int) -> tuple[Pixels, bool]:
    crop = head_crop(image, side_px)
    return crop.image, crop.found


WHOLE = Crop("whole", lambda image, side_px: (image, True))
MIRRORED = Crop("mirrored", lambda image, side_px: (np.ascontiguousarray(image[:, ::-1]), True))
HEAD = Crop(f"head-{HEAD_FINDER_VERSION}", _cut_head)


def read_image(file: Path) -> Pixels:
    """A picture file as uint8 (H, W, 3). Raises LimnerError when it cannot be read."""
    try:
        with Pillow.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise LimnerError(
            f"{file} cannot be read as a picture ({error}); remove it and run the same command again"
        ) from None
