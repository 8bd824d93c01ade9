"""Drawn photos of a made-up subject: an orange disc with two eyes on changing grounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw_subject(size: tuple[int, int], index: int) -> Image.Image:
    """A picture of the subject; `index` moves it and changes the ground."""
    rng = np.random.default_rng(index)
    ground = rng.integers(0, 255, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize(size, Image.Resampling.BILINEAR)
    radius = min(size) // 4
    x, y = (int(rng.integers(radius, side - radius)) for side in size)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(240, 140, 30), outline=(60, 30, 0))
    for side in (-1, 1):
        eye = x + side * radius // 3
        pen.ellipse((eye - radius // 6, y - radius // 4, eye + radius // 6, y + radius // 8), fill=(20, 20, 20))
    return picture


def write_photos(folder: Path) -> Path:
    """Five pictures of the subject, of different sizes and shapes, as `folder`/photo-N.png."""
    folder.mkdir()
    for index, size in enumerate([(160, 120), (120, 160), (200, 200), (150, 140), (140, 130)]):
        draw_subject(size, index).save(folder / f"photo-{index}.png")
    return folder
