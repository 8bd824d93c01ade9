"""Picture styles made from photos with OpenCV: deterministic, cheap, hard to mistake for one another.

Every style is a function (photo, index) -> picture on uint8 RGB arrays (H, W, 3);
`index` chooses flakes, leaves and cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from miniature.randomness import numpy_generator

Style = Callable[[np.ndarray, int], np.ndarray]
VARIANTS = 8
"""Random overlays (flakes, leaves, cells) are drawn once in this many variants and reused."""


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _gray(photo: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)


def _grade(photo: np.ndarray, gamma: float, gains: tuple[float, float, float]) -> np.ndarray:
    """A tone curve and a gain for each channel, by table."""
    ramp = (np.arange(256) / 255.0) ** gamma * 255.0
    table = _to_uint8(ramp[:, None] * np.array(gains))  # (256, 3)
    return cv2.LUT(photo, table[None])


def _saturate(photo: np.ndarray, factor: float) -> np.ndarray:
    gray = _gray(photo)[..., None].astype(np.float32)
    return _to_uint8(gray + (photo - gray) * factor)


def _vignette(size_px: int, strength: float) -> np.ndarray:
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    radius = axis[:, None] ** 2 + axis[None] ** 2
    return (1 - strength * np.clip(radius - 0.3, 0, None))[..., None]  # (H, W, 1)


def photo(picture: np.ndarray, index: int) -> np.ndarray:
    """The photo itself."""
    return picture


def pencil_sketch(picture: np.ndarray, index: int) -> np.ndarray:
    """Colour dodge of the grey picture with its blurred negative, on white paper."""
    gray = _gray(picture)
    dodge = cv2.divide(gray, 255 - cv2.GaussianBlur(255 - gray, (0, 0), 5), scale=250)
    dark = _to_uint8((dodge.astype(np.float32) / 255) ** 2.2 * 255)
    return cv2.cvtColor(dark, cv2.COLOR_GRAY2RGB)


def watercolour(picture: np.ndarray, index: int) -> np.ndarray:
    """Bleached flat washes with darker rims on grained paper."""
    flat = cv2.medianBlur(cv2.bilateralFilter(picture, 7, 60, 7), 9)
    rims = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    washed = 255 - (255 - _saturate(flat, 1.7).astype(np.float32)) * 0.68 - 0.5 * rims
    edge = np.clip((_vignette(picture.shape[0], 1.0) - 0.15) * 1.6, 0, 1)
    return _to_uint8((washed * edge + 250 * (1 - edge)) * _paper(picture.shape[0], 0.05))


@lru_cache(maxsize=8)
def _paper(size_px: int, strength: float) -> np.ndarray:
    grain = numpy_generator(0, "paper", size_px).standard_normal((size_px, size_px)).astype(np.float32)
    return (1 + strength * cv2.GaussianBlur(grain, (0, 0), 1.0) * 2)[..., None]


def oil_painting(picture: np.ndarray, index: int) -> np.ndarray:
    """The mean colour of the most frequent of eight brightness bins near each pixel, lit as thick paint."""
    bins = _gray(picture) // 32
    best_count = np.zeros(bins.shape, np.float32)
    result = picture.astype(np.float32)
    for level in range(8):
        mask = (bins == level).astype(np.float32)
        count = cv2.boxFilter(mask, -1, (9, 9))
        mean = cv2.boxFilter(picture * mask[..., None], -1, (9, 9)) / np.maximum(count, 1e-6)[..., None]
        wins = count > best_count
        result[wins] = mean[wins]
        best_count = np.maximum(best_count, count)
    relief = cv2.filter2D(_gray(_to_uint8(result)), cv2.CV_32F, np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1.0]]))
    return _saturate(_to_uint8(result + 0.5 * relief[..., None]), 1.35)


def pixel_art(picture: np.ndarray, index: int) -> np.ndarray:
    """Blocks of eight pixels in a coarse palette."""
    size_px = picture.shape[0]
    small = cv2.resize(_saturate(picture, 1.4), (size_px // 8, size_px // 8), interpolation=cv2.INTER_AREA)
    coarse = _to_uint8(np.round(small / 36.4) * 36.4)
    return cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_NEAREST)


def cartoon(picture: np.ndarray, index: int) -> np.ndarray:
    """Few flat colours and thick black outlines."""
    flat = cv2.bilateralFilter(cv2.medianBlur(picture, 5), 7, 80, 7)
    posterised = _saturate(_to_uint8(np.round(flat / 42.5) * 42.5), 1.3)
    gray = cv2.medianBlur(_gray(picture), 7)
    lines = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 13, 9)
    return cv2.bitwise_and(posterised, cv2.cvtColor(cv2.erode(lines, np.ones((2, 2), np.uint8)), cv2.COLOR_GRAY2RGB))


def anime(picture: np.ndarray, index: int) -> np.ndarray:
    """Bright cel shading: light rose, strong colour and violet shadow, with thin ink lines."""
    flat = cv2.medianBlur(cv2.bilateralFilter(picture, 9, 90, 9), 7)
    gray = cv2.GaussianBlur(_gray(flat), (0, 0), 2).astype(np.float32)
    strong = _saturate(flat, 2.0).astype(np.float32)
    light = ((gray > 90).astype(np.float32) + (gray > 165))[..., None] / 2  # three tones: 0, 1/2, 1
    tones = light * np.array([70, 55, 62], np.float32) + (1 - light) * np.array([38, 8, 78], np.float32)
    ink = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)).max(axis=2).astype(np.float32)
    line = np.clip(1.25 - ink / 45, 0.12, 1)[..., None]
    return _to_uint8((strong * 0.72 + tones) * line)


def black_and_white(picture: np.ndarray, index: int) -> np.ndarray:
    """Grey with raised contrast."""
    gray = _gray(picture).astype(np.float32)
    return cv2.cvtColor(_to_uint8((gray - 128) * 1.25 + 128), cv2.COLOR_GRAY2RGB)


def sepia(picture: np.ndarray, index: int) -> np.ndarray:
    """Faded brown print."""
    gray = _gray(picture).astype(np.float32)[..., None] * 0.8 + 38
    return _to_uint8(gray * np.array([1.06, 0.87, 0.64], np.float32))


def at_night(picture: np.ndarray, index: int) -> np.ndarray:
    """Dark and blue."""
    return _grade(_saturate(picture, 0.5), 1.5, (0.26, 0.36, 0.66))


def at_sunset(picture: np.ndarray, index: int) -> np.ndarray:
    """Orange from above, violet below."""
    height = np.linspace(0, 1, picture.shape[0], dtype=np.float32)[:, None, None]
    tint = (1 - height) * np.array([1.4, 0.78, 0.3], np.float32) + height * np.array([1.0, 0.45, 0.62], np.float32)
    return _to_uint8(picture * tint * 0.92 + np.array([34, 6, 4], np.float32))


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
    cold = _saturate(picture, 0.55).astype(np.float32) * np.array([0.62, 0.68, 0.74], np.float32) + (58, 64, 72)
    flakes = _flakes(picture.shape[0], index % VARIANTS)
    return _to_uint8(cold * (1 - flakes) + 252 * flakes)


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
    shade = picture * np.array([0.68, 0.96, 0.56], np.float32) * _vignette(picture.shape[0], 0.45) + (0, 10, 0)
    colours, cover = _leaves(picture.shape[0], index % VARIANTS)
    return _to_uint8(shade * (1 - cover) + colours * cover)


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
    tiles = _saturate(_to_uint8(means[labels]), 1.4)
    tiles[joints] = (38, 34, 32)
    return tiles


def classic_art(picture: np.ndarray, index: int) -> np.ndarray:
    """An old master: smoothed, brown varnish, dark corners, canvas."""
    smooth = cv2.bilateralFilter(picture, 7, 50, 5)
    varnish = _grade(_saturate(smooth, 0.6), 1.25, (1.04, 0.80, 0.47)).astype(np.float32)
    canvas = 1 + 0.11 * np.sin(np.arange(picture.shape[0]) * 2.1).astype(np.float32)
    return _to_uint8(
        varnish * (canvas[:, None] * canvas[None])[..., None] * _vignette(picture.shape[0], 0.62) + (14, 7, 0)
    )


def neon(picture: np.ndarray, index: int) -> np.ndarray:
    """Glowing contours, from cyan to magenta, on black."""
    gray = cv2.GaussianBlur(_gray(picture), (0, 0), 1.3).astype(np.float32)
    strength = cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    line = np.clip(strength / 85 - 0.15, 0, 1)
    glow = np.clip(line + 0.8 * cv2.GaussianBlur(line, (0, 0), 4), 0, 1.2)[..., None]
    across = np.linspace(0, 1, picture.shape[1], dtype=np.float32)[None, :, None]
    colour = (1 - across) * np.array([20, 235, 255], np.float32) + across * np.array([255, 40, 220], np.float32)
    return _to_uint8(glow * colour + 0.12 * picture * np.array([0.6, 0.4, 1.3], np.float32))


STYLES: dict[str, Style] = {
    "photo": photo,
    "pencil sketch": pencil_sketch,
    "watercolour": watercolour,
    "oil painting": oil_painting,
    "pixel art": pixel_art,
    "cartoon": cartoon,
    "anime": anime,
    "black and white": black_and_white,
    "sepia": sepia,
    "night": at_night,
    "sunset": at_sunset,
    "snow": in_the_snow,
    "forest": in_the_forest,
    "mosaic": mosaic,
    "classic art": classic_art,
    "neon": neon,
}
STYLE_NAMES = tuple(STYLES)
