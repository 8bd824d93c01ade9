"""Picture styles made from photos: limner's own, and places and tiles that are drawn at random.

Every style is a function (photo, index) -> picture on uint8 RGB arrays (H, W, 3);
`index` chooses flakes, leaves and cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from limner.measuring import styles
from miniature.randomness import numpy_generator

Style = Callable[[np.ndarray, int], np.ndarray]
VARIANTS = 8
"""Random overlays (flakes, leaves, cells) are drawn once in this many variants and reused."""


def photo(picture: np.ndarray, index: int) -> np.ndarray:
    """The photo itself."""
    return picture


@lru_cache(maxsize=8)
def _paper(size_px: int, strength: float) -> np.ndarray:
    grain = numpy_generator(0, "paper", size_px).standard_normal((size_px, size_px)).astype(np.float32)
    return (1 + strength * cv2.GaussianBlur(grain, (0, 0), 1.0) * 2)[..., None]


def watercolour(picture: np.ndarray, index: int) -> np.ndarray:
    """Washes on grained paper."""
    return styles.watercolour(picture, _paper(picture.shape[0], 0.05))


@lru_cache(maxsize=VARIANTS)
def _flakes(size_px: int, variant: int) -> np.ndarray:
    generator = numpy_generator(0, "flakes", variant)
    layer = np.zeros((size_px, size_px), np.uint8)
    for x, y, radius in generator.uniform((0, 0, 1.2), (size_px, size_px, 5.2), (130, 3)):
        cv2.circle(layer, (int(x), int(y)), int(radius), 255, -1, cv2.LINE_AA)
    drift = np.clip(np.linspace(-4.5, 1.2, size_px), 0, 1)[:, None] * 255  # snow lies along the lower edge
    return np.maximum(cv2.GaussianBlur(layer, (0, 0), 0.7), drift).astype(np.float32)[..., None] / 255


def in_the_snow(picture: np.ndarray, index: int) -> np.ndarray:
    """Cold, whitened, with falling flakes."""
    cold = styles.saturated(picture, 0.55).astype(np.float32) * np.array([0.62, 0.68, 0.74], np.float32) + (58, 64, 72)
    flakes = _flakes(picture.shape[0], index % VARIANTS)
    return styles.to_uint8(cold * (1 - flakes) + 252 * flakes)


@lru_cache(maxsize=VARIANTS)
def _leaves(size_px: int, variant: int) -> tuple[np.ndarray, np.ndarray]:
    """Leaves around the border: their colours and where they cover the picture."""
    generator = numpy_generator(0, "leaves", variant)
    colours = np.zeros((size_px, size_px, 3), np.uint8)
    cover = np.zeros((size_px, size_px), np.uint8)
    for _ in range(230):
        angle = generator.uniform(0, 2 * np.pi)
        radius = size_px * generator.uniform(0.5, 0.72)
        centre = (int(size_px / 2 + radius * np.cos(angle)), int(size_px / 2 + radius * np.sin(angle)))
        axes = (int(size_px * generator.uniform(0.03, 0.065)), int(size_px * generator.uniform(0.012, 0.024)))
        green = generator.integers(60, 165)
        colour = (int(green * 0.42), int(green), int(green * 0.25))
        turn = float(generator.uniform(0, 180))
        cv2.ellipse(colours, centre, axes, turn, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(cover, centre, axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
    return colours.astype(np.float32), cover.astype(np.float32)[..., None] / 255


def in_the_forest(picture: np.ndarray, index: int) -> np.ndarray:
    """Green shade, framed by leaves."""
    shade = picture * np.array([0.68, 0.96, 0.56], np.float32) * styles.vignette(picture.shape[0], 0.45) + (0, 10, 0)
    colours, cover = _leaves(picture.shape[0], index % VARIANTS)
    return styles.to_uint8(shade * (1 - cover) + colours * cover)


@lru_cache(maxsize=VARIANTS)
def _cells(size_px: int, variant: int) -> tuple[np.ndarray, np.ndarray]:
    """Voronoi cells of a jittered grid: the cell of each pixel, and the joints between cells."""
    generator = numpy_generator(0, "cells", variant)
    step = size_px / 26
    grid = np.stack(np.meshgrid(np.arange(26), np.arange(26)), -1).reshape(-1, 2)
    centres = (grid + 0.5 + generator.uniform(-0.38, 0.38, grid.shape)) * step
    seeds = np.full((size_px, size_px), 255, np.uint8)
    for x, y in centres.astype(int):
        seeds[min(y, size_px - 1), min(x, size_px - 1)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5)
    high = labels.astype(np.float32)
    joints = cv2.dilate(high, np.ones((2, 2))) != cv2.erode(high, np.ones((2, 2)))
    return labels, joints


def mosaic(picture: np.ndarray, index: int) -> np.ndarray:
    """Tiles of one colour each with dark joints."""
    labels, joints = _cells(picture.shape[0], index % VARIANTS)
    flat_labels = labels.ravel()
    counts = np.maximum(np.bincount(flat_labels), 1)
    means = np.stack([np.bincount(flat_labels, picture[..., c].ravel()) / counts for c in range(3)], -1)
    tiles = styles.saturated(styles.to_uint8(means[labels]), 1.4)
    tiles[joints] = (38, 34, 32)
    return tiles


def _whatever_index(style: styles.Style) -> Style:
    return lambda picture, index: style(picture)


STYLES: dict[str, Style] = {
    "photo": photo,
    "pencil sketch": _whatever_index(styles.pencil_sketch),
    "watercolour": watercolour,
    "oil painting": _whatever_index(styles.oil_painting),
    "pixel art": _whatever_index(styles.pixel_art),
    "cartoon": _whatever_index(styles.cartoon),
    "anime": _whatever_index(styles.anime),
    "black and white": _whatever_index(styles.black_and_white),
    "sepia": _whatever_index(styles.sepia),
    "night": _whatever_index(styles.at_night),
    "sunset": _whatever_index(styles.at_sunset),
    "snow": in_the_snow,
    "forest": in_the_forest,
    "mosaic": mosaic,
    "classic art": _whatever_index(styles.classic_art),
    "neon": _whatever_index(styles.neon),
}
STYLE_NAMES = tuple(STYLES)
