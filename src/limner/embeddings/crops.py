"""Which part of a picture is embedded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from limner.artifacts import hash_bytes
from limner.embeddings.embedder import Pixels
from limner.embeddings.heads import HEAD_FINDER_VERSION, Head, cut_head, find_heads
from limner.errors import LimnerError

NOUNS = {
    "cat": {"cat", "kitten", "kitty", "tomcat"},
    "person": {"person", "woman", "man", "girl", "boy", "lady", "child", "human", "male", "female"},
}
Cut = Callable[[Pixels, int], tuple[Pixels, bool]]  # (picture, side in pixels) -> (crop, whether its object was found)


@dataclass(frozen=True)
class Crop:
    """How a picture is cropped before it is embedded; `name` identifies it in caches and keys."""

    name: str
    cut: Cut
    leaves_out: bool = False
    """Whether pictures without the object are left out; otherwise their middle is used."""


WHOLE = Crop("whole", lambda image, side_px: (image, True))
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


def around_head(class_noun: str) -> Crop:
    """Crop squares around heads of the kind that `class_noun` names, of any kind if it names none.

    Found heads are cached, so that a second embedder need not search again.
    """
    kinds = _kinds_of(class_noun)
    heads: dict[str, Head | None] = {}

    def cut(image: Pixels, side_px: int) -> tuple[Pixels, bool]:
        key = hash_bytes(repr(image.shape).encode() + image.tobytes())
        if key not in heads:
            heads[key] = next(iter(find_heads(image, kinds)), None)
        crop = cut_head(image, side_px, heads[key])
        return crop.image, crop.found

    return Crop("-".join(["head", str(HEAD_FINDER_VERSION), *(kinds or [])]), cut)


def _kinds_of(class_noun: str) -> list[str] | None:
    words = set(class_noun.lower().split())
    return next(([kind] for kind, nouns in NOUNS.items() if words & nouns), None)


def read_image(file: Path) -> Pixels:
    """A picture file, upright, as uint8 (H, W, 3). Raises LimnerError when it cannot be read."""
    try:
        with Pillow.open(file) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise LimnerError(
            f"{file} cannot be read as a picture ({error}); remove it and run the same command again"
        ) from None
