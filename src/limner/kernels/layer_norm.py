"""Layer normalisation (Ba et al. 2016), alone or with the residual sum before it: one kernel forward, one backward.

Shapes: rows (…, C).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels.available import has_triton


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """x (…, C) normalised, in its precision."""
    if has_triton(x):
        return _LayerNorm.apply(x, weight, bias, epsilon)  # type: ignore[return-value]
    return functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, *, later: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x + residual (…, C), and that normalised, both in x's precision.

    `later` (C,) is the bias of a layer whose output will be added to the sum: the returned sum includes it, the
    normalised one does not. It is for use without gradients.
    """
    if later is not None:
        return _with_bias_of_later(x, residual, weight, bias, epsilon, later)
    if has_triton(x):
        return _AddLayerNorm.apply(x, residual, weight, bias, epsilon)  # type: ignore[return-value]
    return plain_add_layer_norm(x, residual, weight, bias, epsilon)


def plain_add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """`add_layer_norm` in plain torch."""
    total = x + residual
    return total, functional.layer_norm(total, total.shape[-1:], weight, bias, epsilon)


def _with_bias_of_later(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, later: Tensor
) -> tuple[Tensor, Tensor]:
    if has_triton(x):
        from limner.kernels.layer_norm_triton import add_and_normalise

        return add_and_normalise(x.contiguous(), residual.contiguous(), weight, bias, epsilon, later)[:2]
    total, normalised = plain_add_layer_norm(x, residual, weight, bias, epsilon)
    return total + later, normalised


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, weight, bias, epsilon: float) -> tuple[Tensor, Tensor]:
        from limner.kernels.layer_norm_triton import add_and_normalise

        total, y, mean, inverse = add_and_normalise(x.contiguous(), residual.contiguous(), weight, bias, epsilon)
        ctx.save_for_backward(total, weight, mean, inverse)
        return total, y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        from limner.kernels.layer_norm_triton import backward

        total, weight, mean, inverse = ctx.saved_tensors
        learns = ctx.needs_input_grad[2]
        d_total, dy = (gradient.contiguous() for gradient in outputs)
        dx, d_weight, d_bias = backward(d_total, dy, total, weight, mean, inverse, learns)
        return dx, dx, d_weight, d_bias, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        from limner.kernels.layer_norm_triton import normalise

        x = x.contiguous()
        y, mean, inverse = normalise(x, weight, bias, epsilon)
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        from limner.kernels.layer_norm_triton import backward

        x, weight, mean, inverse = ctx.saved_tensors
        dx, d_weight, d_bias = backward(
            None, outputs[0].contiguous(), x, weight, mean, inverse, ctx.needs_input_grad[1]
        )
        return dx, d_weight, d_bias, None
