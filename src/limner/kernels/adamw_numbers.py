"""What an AdamW step computes with, in whichever form: see `adamw`, which has the equations and the shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.kernels.eight_bit import BLOCK
from limner.kernels.rows import BlockGroups, ScatteredGradients

Gradients = Tensor | ScatteredGradients
"""Of R rows (R, P), or of one row where autograd put them."""


@dataclass(frozen=True)
class Moments:
    """First and second moments (R, P): fp32 (fp64 for fp64 weights), or int8 and uint8 with scales (R, P/256)."""

    first: Tensor
    second: Tensor
    first_scales: Tensor | None = None
    second_scales: Tensor | None = None

    @classmethod
    def zeros(cls, weight: Tensor, *, eight_bit: bool) -> Moments:
        """Moments of no steps for `weight` (R, P), on its device."""
        if not eight_bit:
            dtype = torch.promote_types(weight.dtype, torch.float32)
            return cls(torch.zeros_like(weight, dtype=dtype), torch.zeros_like(weight, dtype=dtype))
        scales = [weight.new_zeros(weight.shape[0], weight.shape[1] // BLOCK, dtype=torch.float32) for _ in range(2)]
        codes = [torch.zeros_like(weight, dtype=dtype) for dtype in (torch.int8, torch.uint8)]
        return cls(*codes, *scales)


@dataclass(frozen=True)
class Hyperparameters:
    """The numbers of an AdamW step that are the same for all rows; each of the G groups has its weight decay."""

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decays: tuple[float, ...] = (0.01,)
    groups: BlockGroups | None = None  # None: there is one group


@dataclass(frozen=True)
class RowNumbers:
    """What a step needs of each row (R,), and of each group of it (R, G), fp32 (fp64 for fp64 weights)."""

    applied: Tensor  # bool (R,): the row's norm is finite
    gradient_factor: Tensor  # (R,): clipping and the caller's scale
    decay: Tensor  # (R, G): 1 - lr wd
    step_size: Tensor  # (R, G): lr / (1 - b1^t)
    root_factor: Tensor  # (R,): 1 / sqrt(1 - b2^t)
