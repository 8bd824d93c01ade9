"""Drawn photos of a made-up subject and drawn class pictures: square, of the size that is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw(size_px: int, index: int, *, eyes: bool = True) -> Image.Image:
    """An orange disc on a coloured ground; `index` moves it and changes the ground."""
    rng = np.random.default_rng(index)
    ground = rng.integers(0, 255, (size_px // 16 + 1, size_px // 16 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize((size_px, size_px), Image.Resampling.BILINEAR)
    radius = size_px // 4
    x, y = (int(rng.integers(radius, size_px - radius)) for _ in range(2))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(240, 140, 30), outline=(60, 30, 0))
    for side in (-1, 1) if eyes else ():
        eye = x + side * radius // 3
        pen.ellipse((eye - radius // 6, y - radius // 4, eye + radius // 6, y + radius // 8), fill=(20, 20, 20))
    return picture


def write_pictures(folder: Path, count: int, size_px: int, *, first: int = 0, eyes: bool = True) -> Path:
    """`count` pictures in `folder`; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:04d}.png"
        if not path.exists():
            draw(size_px, first + index, eyes=eyes).save(path, compress_level=1)
    return folder
