"""The squares that likeness compares, as they are drawn over pictures and said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.reporting.findings import PictureScores

WHOLE = "no head found: compared whole"


@dataclass(frozen=True)
class Square:
    """A square in percent of the picture's width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def style(self) -> str:
        """Where it is drawn, in CSS."""
        sides = {"left": self.left, "top": self.top, "width": self.width, "height": self.height}
        return ";".join(f"{name}:{value:.2f}%" for name, value in sides.items())


def square_in(edges: Sequence[int] | None, size: tuple[int, int]) -> Square | None:
    """From left, top, right and lower edge in px of a picture of `size` (width, height)."""
    if edges is None or not all(size):
        return None
    x0, y0, x1, y1 = edges
    across, down = 100 / size[0], 100 / size[1]
    return Square(x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down)


def compared_line(scores: PictureScores) -> str:
    """What likeness compares, for a reader of the pictures; "" where it compares whole pictures or is not measured."""
    if not scores.marks_heads:
        return ""
    line = "The square is the head that likeness compares with the heads in the photos, cut out in the same way."
    if scores.headless:
        line += (
            " A picture in which no head is found says so: the whole of it is compared with whole photos, and it is "
            "not ranked among the most and the least alike."
        )
    return line
