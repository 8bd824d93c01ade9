"""How far an embedding still knows the subject, for example under a style."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.measuring.likeness import FEWEST_PHOTOS

FEWEST_OTHERS = 7
LINE_UP = 1 + FEWEST_OTHERS
"""Pictures among which the subject is to be found, itself counted."""


def power(subject: Tensor, of_others: Tensor) -> float | None:
    """How often the subject is found among eight: a styled photo of it beside seven styled pictures of others.

    The one nearest to the subject's plain photos (by likeness, the photo itself left out of them) is taken for the
    subject. `subject` (M, M) are cosines of its styled photos to its plain ones, in the same order, `of_others` (N, M)
    those of the others; NaN in a row of `subject` is a photo that is not recognised. The mean over all photos and all
    ways to choose seven others, exactly; chance is 1/8. None with fewer than four photos or seven others.
    """
    photos, count = len(subject), len(of_others)
    if photos < FEWEST_PHOTOS or count < FEWEST_OTHERS:
        return None
    subject_likeness = (subject.sum(1) - subject.diagonal()) / (photos - 1)  # (M,)
    without_one = (of_others.sum(1, keepdim=True) - of_others) / (photos - 1)  # (N, M): photo m left out
    less_like = (without_one < subject_likeness).sum(0).double()  # (M,): others that look less like the subject
    # C(less_like, 7) / C(count, 7): the share of sevens in which no other looks more like the subject
    factors = [(less_like - k).clamp(min=0) / (count - k) for k in range(FEWEST_OTHERS)]
    return float(torch.stack(factors).prod(0).mean())
