"""What an AdamW step computes with, in whichever form: see `adamw`, which has the equations and the shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.kernels.eight_bit import BLOCK
from limner.kernels.rows import ScatteredGradients

Gradients = Tensor | ScatteredGradients
"""Of G rows (G, P), or of one row where autograd put them."""


@dataclass(frozen=True)
class Moments:
    """First and second moments (G, P): fp32 (fp64 for fp64 weights), or int8 and uint8 with scales (G, P/256)."""

    first: Tensor
    second: Tensor
    first_scales: Tensor | None = None
    second_scales: Tensor | None = None

    @classmethod
    def zeros(cls, weight: Tensor, *, eight_bit: bool) -> Moments:
        """Moments of no steps for `weight` (G, P), on its device."""
        if not eight_bit:
            dtype = torch.promote_types(weight.dtype, torch.float32)
            return cls(torch.zeros_like(weight, dtype=dtype), torch.zeros_like(weight, dtype=dtype))
        scales = [weight.new_zeros(weight.shape[0], weight.shape[1] // BLOCK, dtype=torch.float32) for _ in range(2)]
        codes = [torch.zeros_like(weight, dtype=dtype) for dtype in (torch.int8, torch.uint8)]
        return cls(*codes, *scales)


@dataclass(frozen=True)
class Rates:
    """The numbers of an AdamW step that are the same for all rows."""

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.01


@dataclass(frozen=True)
class RowNumbers:
    """What a step needs of each row, (G,) each, fp32 (fp64 for fp64 weights)."""

    applied: Tensor  # bool: the row's norm is finite
    gradient_factor: Tensor  # clipping and the caller's scale
    decay: Tensor  # 1 - lr wd
    step_size: Tensor  # lr / (1 - b1^t)
    root_factor: Tensor  # 1 / sqrt(1 - b2^t)
