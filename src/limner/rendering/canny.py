"""Reference pictures and their edges (Canny, "A computational approach to edge detection", 1986)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.decoding import Decoders, ReadingRules, RefusedPhotoError
from limner.errors import InputError
from limner.measuring import canny_edges

LATENT_PX = 8
SMALLEST_PX = 64
NEARLY, CLEAR_SHARE, MOST_WHITE = 32, 0.9, 0.5  # what makes an edge map: levels of 255, shares of its pixels
EDGE_LEVEL = 64  # of 255: a line that fills a quarter of a px is still an edge


@dataclass(frozen=True)
class ReferencePicture:
    """A reference as it was read: pixels (H, W, 3) uint8, upright in sRGB, and notes on it."""

    pixels: np.ndarray
    notes: list[str]


def open_reference(path: Path, decoders: Decoders) -> ReferencePicture:
    """Read a picture by the rules of photos. Raises InputError when it is missing, too small or cannot be read."""
    if not path.exists():
        raise InputError(f"there is no picture {path}; name one that exists in control.references")
    try:
        return ReferencePicture(*decoders.read(path, ReadingRules(SMALLEST_PX, full_scale=True)))
    except RefusedPhotoError as error:
        raise InputError(f"{path}: {error}; choose another picture") from None


def rendered_size(asked: tuple[int, int], name: str) -> tuple[int, int]:
    """`asked` (width, height) rounded down to whole latents, as diffusers does. Raises InputError below 64 pixels."""
    width, height = (side - side % LATENT_PX for side in asked)
    if min(width, height) < SMALLEST_PX:
        raise InputError(
            f"control.references.{name}.size: {asked[0]}x{asked[1]} is too small; "
            f"each side needs at least {SMALLEST_PX} pixels"
        )
    return width, height


def native_size(image: np.ndarray, native_size_px: int) -> tuple[int, int]:
    """Width and height for a reference without a size: its shape, with the longer side at the base's native size."""
    height, width = image.shape[:2]
    share = native_size_px / max(width, height)
    sides = (max(SMALLEST_PX, round(side * share)) for side in (width, height))
    return tuple(side - side % LATENT_PX for side in sides)  # type: ignore[return-value]


def resize_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 at `size` (width, height), bicubic, the default of `PIL.Image.resize`."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size))


def edge_picture(image: np.ndarray, low: int = 100, high: int = 200) -> np.ndarray:
    """White edges on black, three equal channels (H, W, 3) uint8, between the two thresholds."""
    edges = canny_edges(image, low, high) * np.uint8(255)  # (H, W)
    return np.repeat(edges[:, :, None], 3, axis=2)


def given_edges(image: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """An edge map that a user drew (H, W, 3) uint8 at `size` (width, height): white where a quarter of a px is edge.

    Raises InputError for a picture that is not mostly black and white, or mostly white.
    """
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # (H, W)
    clear = float(((grey <= NEARLY) | (grey >= 255 - NEARLY)).mean())
    what = f'control.references.{name}.edges = "given", but'
    if clear < CLEAR_SHARE:
        raise InputError(f"{what} {1 - clear:.0%} of its picture is neither black nor white; leave edges out, or draw")
    if float((grey > 127).mean()) > MOST_WHITE:
        raise InputError(f"{what} its picture is mostly white; edges are white on black: invert it")
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)  # (H, W)
    edges = np.where(resized >= EDGE_LEVEL, np.uint8(255), np.uint8(0))
    return np.repeat(edges[:, :, None], 3, axis=2)


def require_edges(edges: np.ndarray, name: str, *, given: bool, low: int, high: int) -> None:
    """Raise InputError for an edge map (H, W, 3) with nothing in it: it would condition nothing."""
    if edges.any():
        return
    if given:
        raise InputError(f"control.references.{name}: its edge map is black throughout; draw white edges, or remove it")
    raise InputError(
        f"control.references.{name}: no edge was found in its picture between the thresholds {low} and {high}; "
        "choose another picture, or lower control.canny_low and canny_high"
    )


def conditioning_tensor(edges: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to a ControlNet's input: (3, H, W) fp32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(edges)).permute(2, 0, 1).to(torch.float32) / 255
