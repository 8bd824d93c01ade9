"""Aspect buckets: the few shapes that photos are cut to when they need not be squares.

The rule is NovelAI's ("NovelAI Improvements on Stable Diffusion", 2022) as in kohya's sd-scripts,
`make_bucket_resolutions`: sides are multiples of 64 px, since the VAE shrinks a picture eightfold and the UNet halves
latents three times more; each width has the largest height with which the area is not above that of the square. Here
no side is more than twice the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from limner.artifacts import Size

MULTIPLE_PX = 64
MOST_ASPECT = 2


def bucket_sizes(size_px: int, multiple_px: int = MULTIPLE_PX) -> list[Size]:
    """Widths and heights, narrow ones first, of area at most `size_px`² px; one of them is always a square.

    `size_px` must be at least `multiple_px`.
    """
    square = size_px // multiple_px * multiple_px
    wide = [(square, square)]
    for width in range(square + multiple_px, MOST_ASPECT * square + 1, multiple_px):
        height = size_px**2 // width // multiple_px * multiple_px
        if height and width <= MOST_ASPECT * height:
            wide.append((width, height))
    return [(height, width) for width, height in wide[:0:-1]] + wide


def nearest_size(size: Size, sizes: Sequence[Size]) -> Size:
    """The one of `sizes` whose aspect ratio is nearest to a picture's of `size`, by the quotient of the two ratios."""
    aspect = math.log(size[0] / size[1])
    return min(sizes, key=lambda candidate: abs(math.log(candidate[0] / candidate[1]) - aspect))
