"""How near renders come to real pictures as a set (KID), and to single training pictures (copying).

Pictures are embedded by EfficientNet-Lite0 (pooled features). N, M pictures, V views, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional as F

from limner.embeddings import Box
from miniature.perception import Perception
from miniature.randomness import numpy_generator
from miniature.views import to_pixel_values

EMBED_PX = 224
EMBED_BATCH = 64
SUBSETS = 100


def polynomial_mmd(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of two samples (N, D) and (M, D).

    Kernel (x·y / D + 1)^3 (Bińkowski et al. 2018, arXiv 1801.01401, section 4; equation 4 for the estimate).
    """
    count, other = len(first), len(second)
    within_first, within_second, between = (
        _kernel(*pair) for pair in ((first, first), (second, second), (first, second))
    )
    own = (within_first.sum() - np.trace(within_first)) / (count * (count - 1))
    its = (within_second.sum() - np.trace(within_second)) / (other * (other - 1))
    return float(own + its - 2 * between.mean())


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first.astype(np.float64) @ second.astype(np.float64).T / first.shape[1] + 1) ** 3


def kernel_distance(
    first: np.ndarray, second: np.ndarray, seed: int = 0, subsets: int = SUBSETS, size: int | None = None
) -> tuple[float, float]:
    """KID: mean and standard deviation of `polynomial_mmd` over random subsets of `size` of both samples.

    Subsets are drawn without replacement; left out, `size` is half of the smaller sample.
    """
    size = size or min(len(first), len(second)) // 2
    values = []
    for index in range(subsets):
        generator = numpy_generator(seed, "kernel distance", index)
        chosen = [sample[generator.choice(len(sample), size, replace=False)] for sample in (first, second)]
        values.append(polynomial_mmd(*chosen))
    return float(np.mean(values)), float(np.std(values))


def split_kernel_distance(
    first: np.ndarray, second: np.ndarray, seed: int = 0, subsets: int = SUBSETS
) -> tuple[float, float]:
    """KID of two versions of the same N pictures: each subset takes one half from either, never a picture from both.

    The estimate is unbiased for independent samples only, and a picture beside its own reconstruction is not.
    """
    values = []
    for index in range(subsets):
        order = numpy_generator(seed, "split kernel distance", index).permutation(len(first))
        half = len(order) // 2
        values.append(polynomial_mmd(first[order[:half]], second[order[half:]]))
    return float(np.mean(values)), float(np.std(values))


@torch.no_grad()
def pooled_features(perception: Perception, pictures: np.ndarray, box: Box | None = None) -> np.ndarray:
    """Pooled features (N, 1280), not normed, of pictures (N, H, W, 3) uint8, or of one square of each."""
    device = next(perception.parameters()).device
    rows = []
    for start in range(0, len(pictures), EMBED_BATCH):
        values = to_pixel_values(
            torch.from_numpy(np.ascontiguousarray(pictures[start : start + EMBED_BATCH])).to(device)
        )
        if box is not None:
            left, top, side = box
            values = values[:, :, top : top + side, left : left + side]
        small = F.interpolate(values, (EMBED_PX, EMBED_PX), mode="bicubic", antialias=True, align_corners=False)
        rows.append(perception.pooled(small).float().cpu())
    return torch.cat(rows).numpy()


def view_features(perception: Perception, pictures: np.ndarray, boxes: list[Box]) -> Iterator[np.ndarray]:
    """Pooled features of each square, plain and mirrored."""
    for box in boxes:
        for sample in (pictures, pictures[:, :, ::-1]):
            yield pooled_features(perception, sample, box)
