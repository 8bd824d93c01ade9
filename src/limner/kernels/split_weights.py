"""bf16 weights with the remainder that restores their fp32 master: fp32 bits = (bf16 bits << 16) + a signed 16 bits.

The bf16 part is the master rounded to the nearest (halves away from zero), so a model computes with it directly.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = 0x8000


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """bf16 weights and int16 remainders of an fp32 `master`, all of its shape; `join` restores its exact bits."""
    bits = master.view(torch.int32)
    high = (bits + HALF) >> 16
    return high.to(torch.int16).view(torch.bfloat16), (bits - (high << 16)).to(torch.int16)


def join(weight: Tensor, remainder: Tensor) -> Tensor:
    """The fp32 master of bf16 weights and their int16 remainders."""
    return ((weight.view(torch.int16).to(torch.int32) << 16) + remainder.to(torch.int32)).view(torch.float32)


def round_stochastically(values: Tensor, halves: Tensor) -> Tensor:
    """fp32 `values` as bf16, rounded up in magnitude where the 16 random bits `halves` (int32) carry over.

    The mean over `halves` is the value itself: Gupta et al., "Deep learning with limited numerical precision", 2015.
    """
    return ((values.view(torch.int32) + halves) >> 16).to(torch.int16).view(torch.bfloat16)
