"""Nearest-neighbour upsampling by two: a copy of whole pixels, 8 bytes at a time.

torch's kernel for channels-last pictures moves one number at a time, at a third of a GPU's memory speed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WORD = torch.int64  # what is copied at a time


def upsample_nearest(x: Tensor) -> Tensor:
    """(B, C, 2H, 2W) of x (B, C, H, W), each pixel four times, in channels-last order where x is."""
    pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C)
    divisible = pixels.shape[-1] * x.element_size() % WORD.itemsize == 0
    if torch.is_grad_enabled() or not pixels.is_contiguous() or not divisible:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")
    batch, height, width, _ = pixels.shape
    words = pixels.flatten().view(WORD).view(batch, height, 1, width, 1, -1)
    copied = words.expand(-1, -1, 2, -1, 2, -1).reshape(batch, 2 * height, 2 * width, -1)
    return copied.view(x.dtype).permute(0, 3, 1, 2)
