"""CLIP's activation, x σ(1.702 x), in one kernel each way; only x is kept between them.

Hendrycks and Gimpel, "Gaussian error linear units", 2016, section 2: the sigmoid's approximation of x Φ(x).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.kernels.available import has_triton


def quick_gelu(x: Tensor) -> Tensor:
    """x σ(1.702 x), of any shape."""
    if has_triton(x):
        return _QuickGelu.apply(x)  # type: ignore[return-value]
    return plain_quick_gelu(x)


def plain_quick_gelu(x: Tensor) -> Tensor:
    """`quick_gelu` in plain torch."""
    return x * torch.sigmoid(1.702 * x)


class _QuickGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from limner.kernels.quick_gelu_triton import activate

        x = x.contiguous()
        ctx.save_for_backward(x)
        return activate(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Tensor:
        from limner.kernels.quick_gelu_triton import activate_backward

        (x,) = ctx.saved_tensors
        return activate_backward(outputs[0].contiguous(), x)
