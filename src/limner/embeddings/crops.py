"""Which part of a picture is embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from limner.embeddings.embedder import Pixels
from limner.errors import LimnerError

Cut = Callable[[Pixels, int], tuple[Pixels, bool]]  # (picture, side in pixels) -> (crop, whether its object was found)
Square = tuple[int, int, int, int]
"""Left, top, right and lower edge in whole px of a picture."""


@dataclass(frozen=True)
class Part:
    """What is compared of a picture."""

    image: Pixels
    found: bool
    """Whether it shows what the crop looks for."""
    square: Square | None = None
    """Where it lies in the picture; None where that is all of it, or is not known."""


@dataclass(frozen=True)
class Crop:
    """How a picture is cut before it is embedded; `name` stands for it in caches and keys.

    `cut` works on one picture and is called by several threads. `squares` then looks at many at once for what they are
    cut around; a picture in which it finds nothing stays whole.
    """

    name: str
    cut: Cut = lambda image, side_px: (image, True)
    leaves_out: bool = False
    """Pictures in which it was not found are left out; else they are compared whole."""
    squares: Callable[[Sequence[Pixels]], Sequence[Square | None]] | None = None

    def parts(self, images: Sequence[Pixels], side_px: int) -> list[Part]:
        """The parts of pictures (H, W, 3) uint8 that are compared, for an embedder that sees squares of `side_px`."""
        cuts = [self.cut(image, side_px) for image in images]
        return self.finished([image for image, _ in cuts], [found for _, found in cuts], side_px)

    def finished(self, images: Sequence[Pixels], found: Sequence[bool], side_px: int) -> list[Part]:
        """The same from what `cut` made of them."""
        if self.squares is None:
            return [Part(image, there) for image, there in zip(images, found, strict=True)]
        squares = self.squares(images)
        return [
            Part(image, False) if square is None else Part(cut_square(image, square, side_px), True, square)
            for image, square in zip(images, squares, strict=True)
        ]


WHOLE = Crop("whole")
VIEW_SHARE = 0.85
"""Side of the parts that are compared to find copies, as a share of the picture's."""
Box = tuple[int, int, int]
"""Left, top and side of a square, in pixels."""


def view_boxes(side_px: int) -> list[Box]:
    """Squares that are compared: the whole picture, its middle, its four corners."""
    side = round(VIEW_SHARE * side_px)
    last, middle = side_px - side, (side_px - side) // 2
    corners = [(left, top, side) for left in (0, last) for top in (0, last)]
    return [(0, 0, side_px), (middle, middle, side), *corners]


def view_crops() -> list[Crop]:
    """The same parts of a picture of any shape, plain and mirrored, as copies may be cropped; the first is all."""

    def cut(image: Pixels, index: int, mirrored: bool) -> tuple[Pixels, bool]:
        (_, top, high), (left, _, wide) = (view_boxes(side_px)[index] for side_px in image.shape[:2])
        part = image[top : top + high, left : left + wide]
        return np.ascontiguousarray(part[:, ::-1] if mirrored else part), True

    return [
        Crop(f"view-{index}{'-mirrored' * mirrored}", lambda image, px, i=index, m=mirrored: cut(image, i, m))
        for index in range(len(view_boxes(0)))
        for mirrored in (False, True)
    ]


def cut_square(image: Pixels, square: Square, side_px: int) -> Pixels:
    """A square of a picture, resized to `side_px`."""
    part = Pillow.fromarray(image).resize((side_px, side_px), Pillow.Resampling.LANCZOS, box=square)
    return np.asarray(part)


def read_image(file: Path) -> Pixels:
    """A picture file, upright, as uint8 (H, W, 3). Raises LimnerError when it cannot be read."""
    try:
        with Pillow.open(file) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise LimnerError(
            f"{file} cannot be read as a picture ({error}); remove it and run the same command again"
        ) from None
