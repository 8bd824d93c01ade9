"""What is wrong with a photo that can be decoded: blurred, badly exposed, without a head or of another subject.

The thresholds come from 129 ordinary photos of 11 pets, 200 photos of other pets and 273 of these enlarged 2.3 times,
all of them good: at most one in a hundred is flagged. `docs/photos.md` has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHECKS_VERSION = 1
BLURRED = 0.6  # of 1; Gaussian blur of 2.5 px on a crop of 512 gives 0.75, sharp photos at most 0.57
TILES = 4  # along a side; the sharpest counts, so that a background may be out of focus
BLUR_PX = 9
LEAST_CONTRAST = 1.0  # mean change from pixel to pixel, of 255; tiles with less are ignored
DARK = 90.0  # of 255, the brightness that 95% of the picture lie below
CLIPPED, CLIPPED_SHARE = 250, 0.25  # of the middle, a quarter of the picture
HEADS_IN_MOST = 2 / 3
LEAST_PHOTOS = 4  # before photos are compared with each other
UNLIKE = 0.14  # cosine below the median photo's; of cats' own photos 1 in 129 lies lower


def flaws(crop: np.ndarray) -> list[str]:
    """The faults of a crop (H, W, 3) uint8 by itself, in words."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)  # (H, W)
    faults = []
    if blur(grey.astype(np.float32)) > BLURRED:
        faults.append("blurred")
    if float(np.percentile(grey, 95)) < DARK:
        faults.append("under-exposed: hardly anything in it is bright")
    down, across = (side // 4 for side in grey.shape)
    share = float((grey[down : len(grey) - down, across : grey.shape[1] - across] >= CLIPPED).mean())
    if share > CLIPPED_SHARE:
        faults.append(f"over-exposed: {share:.0%} of its middle is white without detail")
    return faults


def blur(grey: np.ndarray) -> float:
    """How little a picture (H, W) of 0 to 255 loses when it is blurred again: 0 to 1, of its sharpest tile.

    Crété-Roffet, Dolmiere, Ladret and Nicolas, "The blur effect: perception and estimation with a new no-reference
    perceptual blur metric", SPIE 2007. A picture without contrast anywhere counts as blurred.
    """
    import cv2

    height, width = ((side - 1) // TILES * TILES for side in grey.shape)
    changes, losses = [], []  # (TILES, TILES) each, across and down
    for right, down, kernel in ((1, 0, (BLUR_PX, 1)), (0, 1, (1, BLUR_PX))):
        again = cv2.blur(grey, kernel, borderType=cv2.BORDER_REFLECT)
        sharp, soft = (
            cv2.absdiff(v[down : height + down, right : width + right], v[:height, :width]) for v in (grey, again)
        )
        for means, values in ((changes, sharp), (losses, cv2.max(cv2.subtract(sharp, soft), 0.0))):  # type: ignore[arg-type]
            means.append(cv2.resize(values, (TILES, TILES), interpolation=cv2.INTER_AREA))
    has_contrast = changes[0] + changes[1] > LEAST_CONTRAST
    blurs = [1 - loss / np.maximum(change, 1e-9) for loss, change in zip(losses, changes, strict=True)]
    return float(np.maximum(*blurs)[has_contrast].min()) if has_contrast.any() else 1.0


def without_head(has_head: Sequence[bool]) -> list[int]:
    """Indices of photos without a head, if most of them have one."""
    if len(has_head) < LEAST_PHOTOS or sum(has_head) < HEADS_IN_MOST * len(has_head):
        return []
    return [index for index, found in enumerate(has_head) if not found]


def dissimilar_photos(embeddings: np.ndarray) -> list[int]:
    """Indices of photos that are much less like the others than usual, by embeddings (N, D) of unit norm."""
    if len(embeddings) < LEAST_PHOTOS:
        return []
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, np.nan)
    medians = np.nanmedian(likeness, axis=1)
    return [int(index) for index in np.flatnonzero(medians < np.median(medians) - UNLIKE)]
