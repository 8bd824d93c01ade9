"""What is known of a head in a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Head:
    """A head: box (x0, y0, x1, y1) in px inside the picture, kind, and score from 0 to 1."""

    box: tuple[float, float, float, float]
    kind: str
    score: float

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box (x, y) in px."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """While several threads work on pictures, OpenCV divides no single call: that is slower and gives the same."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
