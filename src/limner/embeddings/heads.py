"""Finds the heads in a picture with OpenCV's Haar cascades (Viola and Jones, CVPR 2001; Lienhart, ICIP 2002).

Each cascade searches the picture upright and rotated to both sides. Windows on which several cascades, rotations and
scales agree are a head; single windows are dropped. There is no cascade for dogs.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from limner.errors import InputError

HEAD_FINDER_VERSION = 2
WORKING_SIDE_PX = 160
MARGIN = 0.2  # of the short side, added around the picture so that heads cut by its edge are found
MARGIN_PX = round(MARGIN * WORKING_SIDE_PX)
SMALLEST_WINDOW_PX = 24  # as in the cascades' training
SURE_SIZE = 0.3  # of the short side; smaller windows are false more often and need more votes
SCALE_STEP = 1.12
ROTATIONS_DEGREES = ((0.0,), (-22.0, 22.0))  # the second only if the first finds nothing
SAME_HEAD_OVERLAP = 0.4  # intersection over union of two windows
HEAD_SHARE = 2 / 3  # of the side of a head crop, as in portraits


@dataclass(frozen=True)
class _Kind:
    """The cascades of one kind of head; how a window relates to the whole head; how many windows must agree.

    `head_size` and `head_shift` (downwards) are in sides of the window.
    """

    cascades: tuple[tuple[str, bool], ...]  # file name, whether its mirror image is searched for too
    head_size: tuple[float, float]
    head_shift: float
    least_votes: int


KINDS = {
    "cat": _Kind(
        (("haarcascade_frontalcatface.xml", False), ("haarcascade_frontalcatface_extended.xml", False)),
        head_size=(1.25, 1.3),
        head_shift=-0.23,
        least_votes=4,
    ),
    "person": _Kind(
        (
            ("haarcascade_frontalface_alt2.xml", False),
            ("haarcascade_frontalface_default.xml", False),
            ("haarcascade_profileface.xml", True),
        ),
        head_size=(1.1, 1.4),
        head_shift=-0.08,
        least_votes=12,
    ),
}


@dataclass(frozen=True)
class Head:
    """A head: box (x0, y0, x1, y1) in px inside the picture, kind, and score (windows that agree, 1 = just enough)."""

    box: tuple[float, float, float, float]
    kind: str
    score: float

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box (x, y) in px."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class HeadCrop:
    """A square around the head; `found` is false if there was none and the middle of the picture was used."""

    image: np.ndarray  # (S, S, 3) uint8
    found: bool


def find_heads(image: np.ndarray, kinds: Sequence[str] | None = None) -> list[Head]:
    """Find heads in `image` (H, W, 3) uint8 RGB, best first; `kinds` out of "cat" and "person", all if omitted.

    Raises InputError for another kind.
    """
    wanted = list(KINDS) if kinds is None else list(kinds)
    for kind in wanted:
        if kind not in KINDS:
            raise InputError(f'there is no head finder for "{kind}"; there are {", ".join(KINDS)}')
    grey, scale = _working_copy(image)
    windows = {kind: np.empty((0, 3)) for kind in wanted}
    heads: list[Head] = []
    for angles in ROTATIONS_DEGREES:
        rotated = [_rotated(grey, degrees) for degrees in angles]
        for kind in wanted:
            windows[kind] = np.concatenate([windows[kind], _windows(KINDS[kind], rotated)])
        heads = [head for kind in wanted for head in _heads_of(kind, windows[kind], scale, image.shape[:2])]
        if heads:
            break
    heads.sort(key=lambda head: (-head.score, head.box))
    separate: list[Head] = []
    for head in heads:
        if all(_overlap(np.array([head.box]), np.array([better.box]))[0, 0] < SAME_HEAD_OVERLAP for better in separate):
            separate.append(head)
    return separate


def cut_head(image: np.ndarray, side_px: int, head: Head | None) -> HeadCrop:
    """Crop a square around `head` from `image` (H, W, 3) uint8 and resize it to `side_px`.

    The head fills two thirds of the side. Without a head, the square is two thirds of the short side, in the middle, as
    in a portrait, and `found` is false.
    """
    height, width = image.shape[:2]
    if head is not None:
        x0, y0, x1, y1 = head.box
        side = min(max(x1 - x0, y1 - y0) / HEAD_SHARE, width, height)
        x, y = head.centre
    else:
        (x, y), side = (width / 2, height / 2), HEAD_SHARE * min(width, height)
    left = min(max(x - side / 2, 0.0), width - side)
    top = min(max(y - side / 2, 0.0), height - side)
    picture = Image.fromarray(image)
    box = (left, top, left + side, top + side)
    crop = np.asarray(picture.resize((side_px, side_px), Image.Resampling.LANCZOS, box=box))
    return HeadCrop(crop, head is not None)


def _working_copy(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Grey copy with equalised contrast, a short side of 160 px and a margin; and its scale relative to `image`."""
    import cv2

    height, width = image.shape[:2]
    scale = WORKING_SIDE_PX / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=interpolation)
    even = cv2.createCLAHE(2.0, (4, 4)).apply(grey)
    return cv2.copyMakeBorder(even, *(MARGIN_PX,) * 4, borderType=cv2.BORDER_REPLICATE), scale


def _rotated(grey: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture rotated about its middle on a canvas that holds all of it, and the inverse matrix (2, 3)."""
    import cv2

    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    canvas = (int(height * sine + width * cosine), int(height * cosine + width * sine))
    matrix[:, 2] += (canvas[0] / 2 - width / 2, canvas[1] / 2 - height / 2)
    if degrees == 0:
        return grey, np.eye(2, 3)
    rotated = cv2.warpAffine(grey, matrix, canvas, borderMode=cv2.BORDER_REPLICATE)
    return rotated, cv2.invertAffineTransform(matrix)


class _Cascades(threading.local):
    """Loaded cascades; a classifier may not be used by two threads at once."""

    @functools.cached_property
    def loaded(self) -> dict[str, Any]:
        import cv2
        import cv2.data

        folder = cv2.data.haarcascades
        names = {name for kind in KINDS.values() for name, _ in kind.cascades}
        return {name: cv2.CascadeClassifier(folder + name) for name in names}


_CASCADES = _Cascades()


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """In this block OpenCV does not split a search: while several threads search for heads, that would be slower."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _windows(kind: _Kind, rotated: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Every window (N, 3) that passes all stages of a cascade: middle x, y and side, in px of the working copy.

    In no particular order: OpenCV's threads add them as they find them.
    """
    windows = [np.empty((0, 3))]
    for grey, back in rotated:
        for name, mirrored in kind.cascades:
            for flip in (False, True) if mirrored else (False,):
                boxes = _detect(name, grey, flip)
                middles = np.c_[boxes[:, :2] + boxes[:, 2:] / 2, np.ones(len(boxes))]  # (N, 3)
                windows.append(np.c_[middles @ back.T, boxes[:, 2:].max(1)])
    return np.concatenate(windows)


def _detect(name: str, grey: np.ndarray, flip: bool) -> np.ndarray:
    """Windows (N, 4) of one cascade: left, top, width, height; `flip` searches for its mirror image."""
    searched = np.ascontiguousarray(grey[:, ::-1]) if flip else grey
    least = (SMALLEST_WINDOW_PX, SMALLEST_WINDOW_PX)
    windows = _CASCADES.loaded[name].detectMultiScale(searched, SCALE_STEP, 0, 0, least)
    windows = np.array(windows, dtype=np.float64).reshape(-1, 4)
    if flip:
        windows[:, 0] = grey.shape[1] - windows[:, 0] - windows[:, 2]
    return windows


def _heads_of(kind: str, found_windows: np.ndarray, scale: float, shape: tuple[int, ...]) -> Iterator[Head]:
    """Heads of one kind: the windows that overlap most others first, each group counted once.

    `found` (N, 3) as `_windows` gives them; their order does not matter.
    """
    settings = KINDS[kind]
    windows = (
        found_windows[np.lexsort(found_windows.T)] - (MARGIN_PX, MARGIN_PX, 0)
    ) / scale  # x, y, side in px of the picture
    height, width = shape[:2]
    windows = windows[((windows[:, :2] > 0) & (windows[:, :2] < (width, height))).all(1)]
    boxes = np.concatenate([windows[:, :2] - windows[:, 2:] / 2, windows[:, :2] + windows[:, 2:] / 2], 1)
    agree = _overlap(boxes, boxes) > SAME_HEAD_OVERLAP  # (N, N)
    remaining = np.ones(len(boxes), dtype=bool)
    while remaining.any():
        votes = np.where(remaining, (agree & remaining).sum(1), 0)
        best = int(votes.argmax())
        if votes[best] < settings.least_votes:
            return
        group = agree[best] & remaining
        remaining &= ~group
        x, y, side = windows[group].mean(0)
        confidence = min(1.0, side / (SURE_SIZE * min(width, height)))
        score = confidence * float(votes[best]) / settings.least_votes
        if score >= 1:
            yield Head(_head_box(settings, x, y, side, shape), kind, float(score))


def _head_box(
    kind: _Kind, x: float, y: float, side: float, shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    half_width, half_height = (side * share / 2 for share in kind.head_size)
    y += kind.head_shift * side
    return (
        float(max(x - half_width, 0)),
        float(max(y - half_height, 0)),
        float(min(x + half_width, shape[1])),
        float(min(y + half_height, shape[0])),
    )


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4): (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)
