"""Where to look in photos: at the head that recurs in them, where heads are found, else at what stands out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from limner.embeddings.head_finder import FoundHead, HeadFinder
from limner.photos.saliency import salient_point

FocusMode = Literal["auto", "center", "saliency", "face", "cat", "dog"]
KINDS_LOOKED_FOR: dict[FocusMode, list[str] | None] = {"auto": None, "face": ["person"], "cat": ["cat"], "dog": ["dog"]}
UNRELATED = 0.2  # cosine of two heads' vectors that says nothing
ALONE = 0.15  # what a head counts that no other photo shows, beside one that all others show (1)


@dataclass(frozen=True)
class Sight:
    """What was seen in one photo: its size (width, height) px, heads best first, and the salient point (x, y) px."""

    size: tuple[int, int]
    heads: tuple[FoundHead, ...]
    salient: tuple[float, float]


@dataclass(frozen=True)
class Focus:
    """A point in px of the photo (x, y), the head there if one was found, and how it was found."""

    point: tuple[float, float]
    head: FoundHead | None
    how: str

    def scaled(self, factor: float) -> Focus:
        """The same in a copy of the photo `factor` times as large."""
        box = self.head and tuple(edge * factor for edge in self.head.box)
        head = replace(self.head, box=box) if self.head else None  # type: ignore[arg-type]
        return replace(self, point=(self.point[0] * factor, self.point[1] * factor), head=head)


def see_all(pictures: Sequence[np.ndarray], mode: FocusMode, *, zoom_to_head: bool = False) -> list[Sight]:
    """See what the mode needs of photos (H, W, 3) uint8 RGB: heads where it looks for them, or to zoom in on one."""
    heads: list[list[FoundHead]] = [[] for _ in pictures]
    if mode in KINDS_LOOKED_FOR or zoom_to_head:
        heads = _finder().find(pictures, KINDS_LOOKED_FOR.get(mode))
    return [_sight(pixels, found, mode) for pixels, found in zip(pictures, heads, strict=True)]


def _sight(pixels: np.ndarray, heads: Sequence[FoundHead], mode: FocusMode) -> Sight:
    size = (pixels.shape[1], pixels.shape[0])
    needed = mode == "saliency" or (mode in KINDS_LOOKED_FOR and not heads)
    return Sight(size, tuple(heads), salient_point(pixels) if needed else _centre(size))


def choose_focuses(sights: Sequence[Sight], mode: FocusMode) -> list[Focus]:
    """The focus of each photo of one subject.

    "center" is the middle, "saliency" the salient point, though the best head near it is kept for zooming in on. The
    others take a head: of several in a photo the one that recurs in the other photos, by kind and vector.
    """
    return [_focus(sight, _choose(place, sights), mode) for place, sight in enumerate(sights)]


def find_focus(pixels: np.ndarray, mode: FocusMode, *, zoom_to_head: bool = False) -> Focus:
    """The focus of a single photo (H, W, 3) uint8 RGB, which no other can explain."""
    return choose_focuses(see_all([pixels], mode, zoom_to_head=zoom_to_head), mode)[0]


def _focus(sight: Sight, head: FoundHead | None, mode: FocusMode) -> Focus:
    if mode not in KINDS_LOOKED_FOR:
        point = _centre(sight.size) if mode == "center" else sight.salient
        return Focus(point, head, "center" if mode == "center" else "salient point")
    if head is None:
        return Focus(sight.salient, None, "salient point")
    several = f", of {len(sight.heads)} heads" if len(sight.heads) > 1 else ""
    return Focus(head.centre, head, f"{head.kind}'s head{several}")


def _choose(place: int, sights: Sequence[Sight]) -> FoundHead | None:
    """The head of one photo with the most weight: its score times how much it recurs in the other photos."""
    heads = sights[place].heads
    if not heads:
        return None
    others = [other.heads for index, other in enumerate(sights) if index != place]
    return max(heads, key=lambda head: head.score * (ALONE + _recurrence(head, others)))


def _recurrence(head: FoundHead, others: Sequence[Sequence[FoundHead]]) -> float:
    """How much the other photos show the same head: the mean over them of their most alike one's score, 0 to 1."""
    if not others:
        return 0.0
    return float(np.mean([max((_alike(head, other) for other in heads), default=0.0) for heads in others]))


def _alike(head: FoundHead, other: FoundHead) -> float:
    if head.kind != other.kind:
        return 0.0
    return other.score * max(0.0, float(head.vector @ other.vector) - UNRELATED) / (1 - UNRELATED)


def _centre(size: tuple[int, int]) -> tuple[float, float]:
    return size[0] / 2, size[1] / 2


@functools.cache
def _finder() -> HeadFinder:
    return HeadFinder()
