"""Group normalisation with the operations before and after it in Stable Diffusion's blocks: a shift and SiLU.

Wu and He, "Group normalization", 2018, equation 7, over channels-last pictures: three kernels forward and three
backward where torch takes seven and copies twice; one each way for small pictures. `plain_group_norm` is the same in
torch.

Shapes: x (B, C, H, W), G groups of D = C/G channels; a shift (B, C) is added to x first: the time embedding's share and
the bias of the convolution before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels import group_norm_avx512
from limner.kernels.available import has_triton
from limner.kernels.half_products import half_products


def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, *, silu: bool, shift: Tensor | None = None
) -> Tensor:
    """Normalised (B, C, H, W) of x + shift, through SiLU if `silu`; channels-last where x is.

    It is in x's precision, or in bf16 where products are (`half_products`), since a product comes next.
    """
    if has_triton(x) and x.is_contiguous(memory_format=torch.channels_last):
        return _GroupNorm.apply(x, weight, bias, shift, groups, epsilon, silu)  # type: ignore[return-value]
    if half_products(x) is not None:
        if group_norm_avx512.fits(x, weight, groups):
            return _HalfGroupNorm.apply(x, weight, bias, shift, groups, epsilon, silu)  # type: ignore[return-value]
        x = x.to(weight.dtype)
    return plain_group_norm(x, weight, bias, groups, epsilon, silu=silu, shift=shift)


def plain_group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, *, silu: bool, shift: Tensor | None = None
) -> Tensor:
    """`group_norm` in plain torch."""
    if shift is not None:
        x = x + shift[:, :, None, None].to(x.dtype)
    normalised = functional.group_norm(x, groups, weight, bias, epsilon)
    return functional.silu(normalised) if silu else normalised


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, shift, groups: int, epsilon: float, silu: bool) -> Tensor:
        from limner.kernels import group_norm_triton, group_norm_whole_triton

        ctx.kernels = group_norm_whole_triton if group_norm_whole_triton.fits(x, groups) else group_norm_triton
        y, coefficients = ctx.kernels.normalise(x, weight, bias, shift, groups, epsilon, silu)
        ctx.save_for_backward(x, weight, shift, *coefficients)
        ctx.groups, ctx.silu = groups, silu
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, shift, *coefficients = ctx.saved_tensors
        dy = outputs[0].contiguous(memory_format=torch.channels_last)
        learns = ctx.needs_input_grad[1]
        gradients = ctx.kernels.normalise_backward(dy, x, weight, shift, coefficients, ctx.groups, ctx.silu, learns)
        wanted = [
            gradient if needed else None for gradient, needed in zip(gradients, ctx.needs_input_grad, strict=False)
        ]
        return *wanted, None, None, None


class _HalfGroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, shift, groups: int, epsilon: float, silu: bool) -> Tensor:
        shift = None if shift is None else shift.float().contiguous()
        y, statistics = group_norm_avx512.normalise(x, weight, bias, shift, groups, epsilon, silu)
        ctx.save_for_backward(x, weight, bias, shift, statistics)
        ctx.silu = silu
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, shift, statistics = ctx.saved_tensors
        dy = outputs[0].to(torch.bfloat16, memory_format=torch.channels_last)
        gradients = group_norm_avx512.normalise_backward(dy, x, weight, bias, shift, statistics, ctx.silu)
        wanted = [
            gradient if needed else None for gradient, needed in zip(gradients, ctx.needs_input_grad, strict=False)
        ]
        return *wanted, None, None, None
