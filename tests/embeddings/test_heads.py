"""Drawn heads and how boxes are compared; OpenCV's threads."""

from __future__ import annotations

import cv2
import numpy as np

from limner.embeddings.heads import single_threaded_opencv
from tests.embeddings.drawn_heads import draw_cat_head, draw_person_head

HEADS = {"cat": (draw_cat_head, (60, 40, 340, 350)), "person": (draw_person_head, (85, 25, 315, 385))}


def overlap(first, second):
    """Intersection over union."""
    both = np.prod([max(0, min(first[i + 2], second[i + 2]) - max(first[i], second[i])) for i in (0, 1)])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


def test_single_threaded_opencv_gives_the_threads_back():
    before = cv2.getNumThreads()
    with single_threaded_opencv():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
