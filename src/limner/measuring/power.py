"""How far an embedding still knows the subject, for example under a style."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.measuring.likeness import FEWEST_PHOTOS

FEWEST_OTHERS = 7
LINE_UP = 1 + FEWEST_OTHERS
"""Pictures among which the subject is to be found, itself counted."""


def power(styled: Tensor, styled_others: Tensor, photos: Tensor) -> float | None:
    """How often the subject is found among eight: a styled photo of it beside seven styled pictures of others.

    The one nearest to the subject's plain photos (by likeness, the photo itself left out of them) is taken for the
    subject. `styled` and `photos` (M, D) are the same photos; `styled_others` (N, D). The mean over all photos and all
    ways to choose seven others, exactly; chance is 1/8. None with fewer than four photos or seven others.
    """
    count = len(styled_others)
    if len(photos) < FEWEST_PHOTOS or count < FEWEST_OTHERS:
        return None
    similarity = styled @ photos.T  # (M, M): styled photo by photo
    subject_likeness = (similarity.sum(1) - similarity.diagonal()) / (len(photos) - 1)  # (M,)
    to_photos = styled_others @ photos.T  # (N, M)
    without_one = (to_photos.sum(1, keepdim=True) - to_photos) / (len(photos) - 1)  # (N, M): photo m left out
    less_like = (without_one < subject_likeness).sum(0).double()  # (M,): others that look less like the subject
    # C(less_like, 7) / C(count, 7): the share of sevens in which no other looks more like the subject
    factors = [(less_like - k).clamp(min=0) / (count - k) for k in range(FEWEST_OTHERS)]
    return float(torch.stack(factors).prod(0).mean())
