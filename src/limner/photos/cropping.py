"""Which part of a photo is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limner.artifacts import Size

HEAD_SHARE = 0.6  # of the crop's short side, with zoom "head"
MOST_ENLARGEMENT = 2.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CropPlan:
    """A part in whole upright source pixels: columns x0 to x1, rows y0 to y1, the ends not included."""

    x0: int
    y0: int
    x1: int
    y1: int
    notes: list[str] = field(default_factory=list)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def size(self) -> Size:
        """Width and height."""
        return self.x1 - self.x0, self.y1 - self.y0

    @property
    def side_px(self) -> int:
        """The short side; of a square, its side."""
        return min(self.size)


def plan_crop(
    size: Size,
    focus: tuple[float, float],
    head: Box | None,
    zoom: Literal["picture", "head"],
    crop_size: Size,
    side_share: float | None = None,
) -> CropPlan:
    """Plan a crop of the shape of `crop_size` in a picture of `size`, with its centre as near to `focus` as possible.

    Sizes are width and height in px. With zoom "picture" it is the largest possible. With "head" its size is such
    that the longer side of `head` (x0, y0, x1, y1 in px) fills 60% of its short side, but it is not enlarged more than
    twice to `crop_size`; without a head it is the largest, and a note says so. `side_share`, a share of the largest,
    overrides both.
    """
    widest = min(have / want for have, want in zip(size, crop_size, strict=True))
    largest_size = _scaled(crop_size, widest, size)
    largest, target = min(largest_size), min(crop_size)
    side, notes = largest, []
    if side_share is not None:
        side = max(1, round(side_share * largest))
    elif zoom == "head" and head is None:
        notes.append(f"no head was found to zoom in on; the largest {_shape(crop_size)} was taken")
    elif zoom == "head" and head is not None:
        wanted = max(head[2] - head[0], head[3] - head[1]) / HEAD_SHARE
        side = min(largest, max(round(wanted), round(target / MOST_ENLARGEMENT)))
    if side < target:
        notes.append(f"enlarged {target / side:.1f} times, from {side} px")
    width, height = largest_size if side == largest else _scaled(crop_size, side / target, size)
    x0, y0 = (_start(*axis) for axis in zip(focus, (width, height), size, strict=True))
    return CropPlan(x0, y0, x0 + width, y0 + height, notes)


def _scaled(crop_size: Size, scale: float, within: Size) -> Size:
    """The shape `scale` times as large, in whole px, no larger than `within`."""
    width, height = (min(round(side * scale), most) for side, most in zip(crop_size, within, strict=True))
    return width, height


def _shape(crop_size: Size) -> str:
    return "square" if crop_size[0] == crop_size[1] else "part of its shape"


def _start(centre: float, side: int, length: int) -> int:
    return min(max(round(centre - side / 2), 0), length - side)
