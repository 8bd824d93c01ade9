"""Where to look in photos: at the head that recurs in them, where heads are found, else at what stands out."""

from __future__ import annotations

import functools
import threading
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

    def scaled(self, factor: float, size: tuple[int, int]) -> Sight:
        """The same in the photo of `size` of which a copy was looked at, `factor` times smaller."""
        heads = tuple(replace(head, box=tuple(edge * factor for edge in head.box)) for head in self.heads)
        return Sight(size, heads, (self.salient[0] * factor, self.salient[1] * factor))


@dataclass(frozen=True)
class Focus:
    """A point in px of the photo (x, y), the head there if one was found, and how it was found."""

    point: tuple[float, float]
    head: FoundHead | None
    how: str


def see(pixels: np.ndarray, mode: FocusMode, *, zoom_to_head: bool = False) -> Sight:
    """See what the mode needs of a photo (H, W, 3) uint8 RGB: heads where it looks for them, or to zoom in on one.

    Photos may be looked at by several threads at once.
    """
    looks = mode in KINDS_LOOKED_FOR or zoom_to_head
    heads = _finder().find([pixels], KINDS_LOOKED_FOR.get(mode))[0] if looks else []
    size = (pixels.shape[1], pixels.shape[0])
    needed = mode == "saliency" or (mode in KINDS_LOOKED_FOR and not heads)
    return Sight(size, tuple(heads), salient_point(pixels) if needed else (size[0] / 2, size[1] / 2))


def possible_focuses(sight: Sight, mode: FocusMode) -> list[Focus]:
    """What a photo's focus may be, once the others were seen: one for each head, one alone where there is no head.

    "center" is the middle, "saliency" the salient point, though a head is kept for zooming in on. The others take the
    head itself, and the salient point where there is none.
    """
    if mode not in KINDS_LOOKED_FOR:
        point = (sight.size[0] / 2, sight.size[1] / 2) if mode == "center" else sight.salient
        how = "center" if mode == "center" else "salient point"
        return [Focus(point, head, how) for head in sight.heads or [None]]
    several = f", of {len(sight.heads)} heads" if len(sight.heads) > 1 else ""
    found = [Focus(head.centre, head, f"{head.kind}'s head{several}") for head in sight.heads]
    return found or [Focus(sight.salient, None, "salient point")]


def choose_heads(sights: Sequence[Sight]) -> list[int]:
    """For each photo of one subject, the place of its focus among the possible ones.

    Of several heads in a photo the one is taken that recurs in the other photos, by kind and vector.
    """
    return [_choose(place, sights) for place in range(len(sights))]


def find_focus(pixels: np.ndarray, mode: FocusMode, *, zoom_to_head: bool = False) -> Focus:
    """The focus of a single photo (H, W, 3) uint8 RGB, which no other can explain."""
    sight = see(pixels, mode, zoom_to_head=zoom_to_head)
    return possible_focuses(sight, mode)[_choose(0, [sight])]


def _choose(place: int, sights: Sequence[Sight]) -> int:
    """Which head of one photo has the most weight: its score times how much it recurs in the other photos."""
    heads = sights[place].heads
    if len(heads) < 2:
        return 0
    others = [other.heads for index, other in enumerate(sights) if index != place]
    weights = [head.score * (ALONE + _recurrence(head, others)) for head in heads]
    return weights.index(max(weights))


def _recurrence(head: FoundHead, others: Sequence[Sequence[FoundHead]]) -> float:
    """How much the other photos show the same head: the mean over them of their most alike one's score, 0 to 1."""
    if not others:
        return 0.0
    return float(np.mean([max((_alike(head, other) for other in heads), default=0.0) for heads in others]))


def _alike(head: FoundHead, other: FoundHead) -> float:
    if head.kind != other.kind:
        return 0.0
    return other.score * max(0.0, float(head.vector @ other.vector) - UNRELATED) / (1 - UNRELATED)


def _finder() -> HeadFinder:
    with _LOADING:
        return _loaded_finder()


@functools.cache
def _loaded_finder() -> HeadFinder:
    return HeadFinder()


_LOADING = threading.Lock()
