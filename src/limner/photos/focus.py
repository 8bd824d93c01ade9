"""The point of focus in photos: the head that recurs in them if heads are found, else the salient point."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from limner.embeddings.head_finder import FoundHead, HeadFinder
from limner.embeddings.recurrence import choose_heads as recurring_heads
from limner.photos.saliency import salient_point

FocusMode = Literal["auto", "center", "saliency", "face", "cat", "dog"]
KINDS_BY_MODE: dict[FocusMode, list[str] | None] = {"auto": None, "face": ["person"], "cat": ["cat"], "dog": ["dog"]}


@dataclass(frozen=True)
class Sight:
    """What was detected in a photo: its size (width, height) px, heads best first, and the salient point (x, y) px."""

    size: tuple[int, int]
    heads: tuple[FoundHead, ...]
    salient: tuple[float, float]

    def scaled(self, factor: float, size: tuple[int, int]) -> Sight:
        """The same in the photo of `size`, of which this was a copy `factor` times smaller."""
        heads = tuple(replace(head, box=tuple(edge * factor for edge in head.box)) for head in self.heads)
        return Sight(size, heads, (self.salient[0] * factor, self.salient[1] * factor))


@dataclass(frozen=True)
class Focus:
    """A point in px of the photo (x, y), the head there if one was found, and how it was found."""

    point: tuple[float, float]
    head: FoundHead | None
    how: str


def see(pixels: np.ndarray, mode: FocusMode, *, zoom_to_head: bool = False) -> Sight:
    """Detect what the mode needs in a photo (H, W, 3) uint8 RGB: heads if it uses them, or to zoom in on one.

    Several threads may call this at once.
    """
    looks = mode in KINDS_BY_MODE or zoom_to_head
    heads = _finder().find([pixels], KINDS_BY_MODE.get(mode))[0] if looks else []
    size = (pixels.shape[1], pixels.shape[0])
    needed = mode == "saliency" or (mode in KINDS_BY_MODE and not heads)
    return Sight(size, tuple(heads), salient_point(pixels) if needed else (size[0] / 2, size[1] / 2))


def possible_focuses(sight: Sight, mode: FocusMode) -> list[Focus]:
    """The candidates for a photo's focus: one for each head, or a single one without a head.

    "center" is the middle, "saliency" the salient point, with a head kept for zooming in. The other modes use the head
    itself, or the salient point where there is none.
    """
    if mode not in KINDS_BY_MODE:
        point = (sight.size[0] / 2, sight.size[1] / 2) if mode == "center" else sight.salient
        how = "center" if mode == "center" else "salient point"
        return [Focus(point, head, how) for head in sight.heads or [None]]
    several = f", of {len(sight.heads)} heads" if len(sight.heads) > 1 else ""
    focuses = [Focus(head.centre, head, f"{head.kind}'s head{several}") for head in sight.heads]
    return focuses or [Focus(sight.salient, None, "salient point")]


def choose_heads(sights: Sequence[Sight]) -> list[int]:
    """For each photo of one subject, the index of its focus among the possible ones.

    Of several heads in a photo, the one that recurs in the other photos is chosen, by kind and vector.
    """
    return recurring_heads([sight.heads for sight in sights])


def find_focus(pixels: np.ndarray, mode: FocusMode, *, zoom_to_head: bool = False) -> Focus:
    """The focus of a single photo (H, W, 3) uint8 RGB, without other photos to compare with."""
    sight = see(pixels, mode, zoom_to_head=zoom_to_head)
    return possible_focuses(sight, mode)[choose_heads([sight])[0]]


def _finder() -> HeadFinder:
    with _LOADING:
        return _loaded_finder()


@functools.cache
def _loaded_finder() -> HeadFinder:
    return HeadFinder()


_LOADING = threading.Lock()
