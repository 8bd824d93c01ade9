"""Where to look in a photo: at the head when one is found, else at what stands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from limner.embeddings.heads import Head, find_heads
from limner.photos.saliency import salient_point


@dataclass(frozen=True)
class Focus:
    """A point in px of the photo (x, y), the head there if one was found, and how it was found."""

    point: tuple[float, float]
    head: Head | None
    how: str


def find_focus(pixels: np.ndarray, mode: Literal["auto", "center"], *, zoom_to_head: bool = False) -> Focus:
    """Find the focus of a photo (H, W, 3) uint8 RGB.

    With mode "center" the middle of the picture, though a head is still looked for when the crop is to zoom in
    on one. With "auto" the best head's middle, else the salient point.
    """
    height, width = pixels.shape[:2]
    if mode == "center" and not zoom_to_head:
        return Focus((width / 2, height / 2), None, "center")
    heads = find_heads(pixels)
    if heads:
        return Focus(heads[0].centre, heads[0], f"head, by the {heads[0].kind} cascades")
    if mode == "center":
        return Focus((width / 2, height / 2), None, "center")
    return Focus(salient_point(pixels), None, "salient point")
