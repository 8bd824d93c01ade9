"""Reference pictures and their edges (Canny, "A computational approach to edge detection", 1986)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.errors import InputError
from limner.measuring import canny_edges

LATENT_PX = 8
SMALLEST_PX = 64


def open_reference(path: Path) -> np.ndarray:
    """A picture upright in RGB: (H, W, 3) uint8. Raises InputError when it is missing or cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(_on_white(upright).convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"there is no picture {path}; name one that exists in control.references") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}); choose another") from None


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


def conditioning_tensor(edges: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to a ControlNet's input: (3, H, W) fp32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(edges)).permute(2, 0, 1).to(torch.float32) / 255


def _on_white(picture):
    from PIL import Image

    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
