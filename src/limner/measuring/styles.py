"""Pictures put through the styles that prompts name, with OpenCV: deterministic and cheap.

They stand in for what a base paints when a prompt names the style: by them it is measured how far an embedding still
knows a subject there. Each takes a square picture (H, H, 3) uint8 RGB of about 256 px and returns another.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import cv2
import numpy as np

Style = Callable[[np.ndarray], np.ndarray]
STYLES_VERSION = 1  # raise it when a style begins to look different
SIDE_PX = 256  # what the sizes of strokes and blocks are made for


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Values cut to a picture's range."""
    return np.clip(values, 0, 255).astype(np.uint8)


def gray_of(photo: np.ndarray) -> np.ndarray:
    """Brightness (H, W)."""
    return cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)


def graded(photo: np.ndarray, gamma: float, gains: tuple[float, float, float]) -> np.ndarray:
    """A tone curve and a gain for each channel, by table."""
    ramp = (np.arange(256) / 255.0) ** gamma * 255.0
    table = to_uint8(ramp[:, None] * np.array(gains))  # (256, 3)
    return cv2.LUT(photo, table[None])


def saturated(photo: np.ndarray, factor: float) -> np.ndarray:
    """Colours further from grey by this factor."""
    gray = gray_of(photo)[..., None].astype(np.float32)
    return to_uint8(gray + (photo - gray) * factor)


def vignette(size_px: int, strength: float) -> np.ndarray:
    """Factors (H, H, 1) that darken the corners."""
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    radius = axis[:, None] ** 2 + axis[None] ** 2
    return (1 - strength * np.clip(radius - 0.3, 0, None))[..., None]  # (H, W, 1)


def pencil_sketch(picture: np.ndarray) -> np.ndarray:
    """Colour dodge of the grey picture with its blurred negative, on white paper."""
    gray = gray_of(picture)
    dodge = cv2.divide(gray, 255 - cv2.GaussianBlur(255 - gray, (0, 0), 5), scale=250)
    dark = to_uint8((dodge.astype(np.float32) / 255) ** 2.2 * 255)
    return cv2.cvtColor(dark, cv2.COLOR_GRAY2RGB)


def watercolour(picture: np.ndarray, paper: np.ndarray | float = 1.0) -> np.ndarray:
    """Bleached flat washes with darker rims; `paper` (H, H, 1) is the grain of the paper."""
    flat = cv2.medianBlur(cv2.bilateralFilter(picture, 7, 60, 7), 9)
    rims = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    washed = 255 - (255 - saturated(flat, 1.7).astype(np.float32)) * 0.68 - 0.5 * rims
    edge = np.clip((vignette(picture.shape[0], 1.0) - 0.15) * 1.6, 0, 1)
    return to_uint8((washed * edge + 250 * (1 - edge)) * paper)


def oil_painting(picture: np.ndarray) -> np.ndarray:
    """The mean colour of the most frequent of eight brightness bins near each pixel, lit as thick paint."""
    bins = gray_of(picture) // 32
    best_count = np.zeros(bins.shape, np.float32)
    result = picture.astype(np.float32)
    for level in range(8):
        mask = (bins == level).astype(np.float32)
        count = cv2.boxFilter(mask, -1, (9, 9))
        mean = cv2.boxFilter(picture * mask[..., None], -1, (9, 9)) / np.maximum(count, 1e-6)[..., None]
        wins = count > best_count
        result[wins] = mean[wins]
        best_count = np.maximum(best_count, count)
    relief = cv2.filter2D(gray_of(to_uint8(result)), cv2.CV_32F, np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1.0]]))
    return saturated(to_uint8(result + 0.5 * relief[..., None]), 1.35)


def pixel_art(picture: np.ndarray) -> np.ndarray:
    """Blocks of eight pixels in a coarse palette."""
    size_px = picture.shape[0]
    small = cv2.resize(saturated(picture, 1.4), (size_px // 8, size_px // 8), interpolation=cv2.INTER_AREA)
    coarse = to_uint8(np.round(small / 36.4) * 36.4)
    return cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_NEAREST)


def cartoon(picture: np.ndarray) -> np.ndarray:
    """Few flat colours and thick black outlines."""
    flat = cv2.bilateralFilter(cv2.medianBlur(picture, 5), 7, 80, 7)
    posterised = saturated(to_uint8(np.round(flat / 42.5) * 42.5), 1.3)
    gray = cv2.medianBlur(gray_of(picture), 7)
    lines = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 13, 9)
    return cv2.bitwise_and(posterised, cv2.cvtColor(cv2.erode(lines, np.ones((2, 2), np.uint8)), cv2.COLOR_GRAY2RGB))


def anime(picture: np.ndarray) -> np.ndarray:
    """Bright cel shading: light rose, strong colour and violet shadow, with thin ink lines."""
    flat = cv2.medianBlur(cv2.bilateralFilter(picture, 9, 90, 9), 7)
    gray = cv2.GaussianBlur(gray_of(flat), (0, 0), 2).astype(np.float32)
    strong = saturated(flat, 2.0).astype(np.float32)
    light = ((gray > 90).astype(np.float32) + (gray > 165))[..., None] / 2  # three tones: 0, 1/2, 1
    tones = light * np.array([70, 55, 62], np.float32) + (1 - light) * np.array([38, 8, 78], np.float32)
    ink = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)).max(axis=2).astype(np.float32)
    line = np.clip(1.25 - ink / 45, 0.12, 1)[..., None]
    return to_uint8((strong * 0.72 + tones) * line)


def black_and_white(picture: np.ndarray) -> np.ndarray:
    """Grey with raised contrast."""
    gray = gray_of(picture).astype(np.float32)
    return cv2.cvtColor(to_uint8((gray - 128) * 1.25 + 128), cv2.COLOR_GRAY2RGB)


def sepia(picture: np.ndarray) -> np.ndarray:
    """Faded brown print."""
    gray = gray_of(picture).astype(np.float32)[..., None] * 0.8 + 38
    return to_uint8(gray * np.array([1.06, 0.87, 0.64], np.float32))


def at_night(picture: np.ndarray) -> np.ndarray:
    """Dark and blue."""
    return graded(saturated(picture, 0.5), 1.5, (0.26, 0.36, 0.66))


def at_sunset(picture: np.ndarray) -> np.ndarray:
    """Orange from above, violet below."""
    height = np.linspace(0, 1, picture.shape[0], dtype=np.float32)[:, None, None]
    tint = (1 - height) * np.array([1.4, 0.78, 0.3], np.float32) + height * np.array([1.0, 0.45, 0.62], np.float32)
    return to_uint8(picture * tint * 0.92 + np.array([34, 6, 4], np.float32))


def classic_art(picture: np.ndarray) -> np.ndarray:
    """An old master: smoothed, brown varnish, dark corners, canvas."""
    smooth = cv2.bilateralFilter(picture, 7, 50, 5)
    varnish = graded(saturated(smooth, 0.6), 1.25, (1.04, 0.80, 0.47)).astype(np.float32)
    canvas = 1 + 0.11 * np.sin(np.arange(picture.shape[0]) * 2.1).astype(np.float32)
    return to_uint8(
        varnish * (canvas[:, None] * canvas[None])[..., None] * vignette(picture.shape[0], 0.62) + (14, 7, 0)
    )


def neon(picture: np.ndarray) -> np.ndarray:
    """Glowing contours, from cyan to magenta, on black."""
    gray = cv2.GaussianBlur(gray_of(picture), (0, 0), 1.3).astype(np.float32)
    strength = cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    line = np.clip(strength / 85 - 0.15, 0, 1)
    glow = np.clip(line + 0.8 * cv2.GaussianBlur(line, (0, 0), 4), 0, 1.2)[..., None]
    across = np.linspace(0, 1, picture.shape[1], dtype=np.float32)[None, :, None]
    colour = (1 - across) * np.array([20, 235, 255], np.float32) + across * np.array([255, 40, 220], np.float32)
    return to_uint8(glow * colour + 0.12 * picture * np.array([0.6, 0.4, 1.3], np.float32))


STYLES: dict[str, tuple[str, Style]] = {
    "watercolour": (r"water[ -]?colou?rs?( painting)?|aquarelle", watercolour),
    "oil painting": (r"oil[ -]paint(ed|ing)s?|in oils?|oil on canvas", oil_painting),
    "pencil sketch": (r"pencil[ -](sketch|drawing)|sketch(ed)?|in pencil|(charcoal|graphite) drawing", pencil_sketch),
    "pixel art": (r"pixel(led)?[ -]?art|8[ -]bit( art)?", pixel_art),
    "cartoon": (r"cartoons?|comics?|comic[ -]book", cartoon),
    "anime": (r"anime|manga", anime),
    "black and white": (r"black[ -]and[ -]white|monochrome|gr[ae]yscale", black_and_white),
    "sepia": (r"sepia|old photo(graph)?", sepia),
    "night": (r"night|midnight|moonlight|moonlit", at_night),
    "sunset": (r"sunset|golden hour", at_sunset),
    "classic art": (r"(class?ic(al|ist)?|renaissance|baroque)( art( style)?| painting| style)", classic_art),
    "neon": (r"neon( lights?| glow| sign)?", neon),
}
"""Words that name a style in a prompt, and the style."""
UNKNOWN = (
    r"mosaic|painting|drawing|style|unreal engine|octane|cinema 4d|3d|render(ing)?|sculpture|statue|lego|origami|art"
)
"""Words that ask for a style that no filter here stands in for."""


def styles_named(prompt: str) -> list[str] | None:
    """The styles that a prompt's words name, in the table's order; None where it asks for another than these."""
    names, rest = [], prompt.lower()
    for name, (words, _) in STYLES.items():
        rest, count = re.subn(rf"(?<!\w)({words})(?!\w)", "|", rest)
        names += [name] if count else []
    return None if not names and re.search(rf"(?<!\w)({UNKNOWN})(?!\w)", rest) else names


def put_through(picture: np.ndarray, names: list[str]) -> np.ndarray:
    """A picture (H, W, 3) uint8, its centred square at 256 px, put through these styles one after another."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = picture[top : top + side, left : left + side]
    interpolation = cv2.INTER_AREA if side > SIDE_PX else cv2.INTER_CUBIC
    styled = np.ascontiguousarray(
        square if side == SIDE_PX else cv2.resize(square, (SIDE_PX, SIDE_PX), interpolation=interpolation)
    )
    for name in names:
        styled = STYLES[name][1](styled)
    return styled
