"""Which square of a photo is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

HEAD_SHARE = 0.6  # of the crop's side, with zoom "head"
MOST_ENLARGEMENT = 2.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CropPlan:
    """A square in whole upright source pixels: columns x0 to x1, rows y0 to y1, the ends not included."""

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
    def side_px(self) -> int:
        """Side of the square."""
        return self.x1 - self.x0


def plan_crop(
    size: tuple[int, int],
    focus: tuple[float, float],
    head: Box | None,
    zoom: Literal["picture", "head"],
    size_px: int,
    side_share: float | None = None,
) -> CropPlan:
    """Place a square in a picture of `size` (width, height) px, as near as it goes to having `focus` in its centre.

    With zoom "picture" it is the largest there is. With "head" it is as large that the longer side of `head`
    (x0, y0, x1, y1 in px) fills 60% of it, but not so small that it would be enlarged more than twice to
    `size_px`; without a head it is the largest, and a note says so. `side_share` of the short side, where given,
    overrules both.
    """
    largest = min(size)
    side, notes = largest, []
    if side_share is not None:
        side = max(1, round(side_share * largest))
    elif zoom == "head" and head is None:
        notes.append("no head was found to zoom in on; the largest square was taken")
    elif zoom == "head" and head is not None:
        wanted = max(head[2] - head[0], head[3] - head[1]) / HEAD_SHARE
        side = min(largest, max(round(wanted), round(size_px / MOST_ENLARGEMENT)))
    if side < size_px:
        notes.append(f"enlarged {size_px / side:.1f} times, from {side} px")
    x0, y0 = (_start(centre, side, length) for centre, length in zip(focus, size, strict=True))
    return CropPlan(x0, y0, x0 + side, y0 + side, notes)


def _start(centre: float, side: int, length: int) -> int:
    return min(max(round(centre - side / 2), 0), length - side)
