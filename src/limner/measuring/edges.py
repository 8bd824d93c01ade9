"""Edge agreement: does a conditioned render keep the edges it was given?"""

from __future__ import annotations

import numpy as np

TOLERANCE_PX = 2


def canny_edges(image: np.ndarray, low: int, high: int) -> np.ndarray:
    """Canny edges of a picture (H, W, 3) uint8 with these thresholds: (H, W) of bool (Canny 1986)."""
    import cv2

    return cv2.Canny(image, low, high) > 0


def edge_agreement(render: np.ndarray, conditioning: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> float:
    """F1 of two edge maps (H, W) of bool; an edge pixel counts as met when the other map has one within the tolerance.

    Precision is the met share of the render's edges, recall that of the conditioning edges. Two maps without
    any edge agree (1); one without agrees with none (0). Raises ValueError when the sizes differ.
    """
    if render.shape != conditioning.shape:
        raise ValueError(f"edge maps differ in size: {render.shape} and {conditioning.shape}")
    if not render.any() and not conditioning.any():
        return 1.0
    if not render.any() or not conditioning.any():
        return 0.0
    precision = (_distance_px(conditioning)[render] <= tolerance_px).mean()
    recall = (_distance_px(render)[conditioning] <= tolerance_px).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0


def _distance_px(edges: np.ndarray) -> np.ndarray:
    """Euclidean distance of every pixel to the nearest edge."""
    import cv2

    return cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
