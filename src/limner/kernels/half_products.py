"""Matrix products and convolutions in bf16 between activations in fp32, for processors that multiply bf16 in hardware.

Such a processor (AMX) multiplies bf16 many times as fast as fp32 and adds up in fp32, but computes everything else
slower in bf16. So inside a block of `HalfProducts` the layers of this module round their inputs and weights to bf16,
and norms, sums, softmax and all trained weights stay in fp32.

Shapes: pictures (B, C, H, W) in channels-last order, rows (N…, C), weights (D, C, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels.linear import joint_view
from limner.kernels.scope import Scope

HALF = torch.bfloat16
FEWEST_ROWS = 128  # of a layer's input; with fewer, rounding takes as long as it saves


class HalfProducts(Scope):
    """A block in which layers on a processor compute their products in bf16; it keeps frozen weights rounded."""

    def __init__(self) -> None:
        self._frozen: dict[
            tuple[Any, ...], tuple[Tensor, Tensor]
        ] = {}  # holds the weights, so that no address is reused

    def rounded(self, weight: Tensor) -> Tensor:
        """`weight` in bf16, in its memory format; a frozen weight is rounded once, any other at every call."""
        if weight.requires_grad:
            return weight.detach().to(HALF)
        key = (weight.data_ptr(), weight.shape)
        if key not in self._frozen:
            self._frozen[key] = (weight.detach(), weight.detach().to(HALF))
        return self._frozen[key][1]


def half_products(x: Tensor) -> HalfProducts | None:
    """The block that the caller is in, if products of `x` (pictures or rows) are faster in bf16; else None."""
    return HalfProducts.current() if x.numel() // x.shape[1 if x.dim() == 4 else -1] >= FEWEST_ROWS else None


def half_convolution(
    half: HalfProducts, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any, inner: bool = False
) -> Tensor:
    """The output (B, D, H', W') of a convolution, in fp32, or bf16 if `inner`.

    `geometry` is its stride, padding and dilation; `inner` is for an output that is normalised before anything is added
    to it.
    """
    dtype = HALF if inner else torch.float32
    return _HalfConvolution.apply(half, x, dtype, weight, bias, geometry)  # type: ignore[return-value]


def half_linear(
    half: HalfProducts, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), *, inner: bool = False
) -> Tensor:
    """Outputs (N…, J·D) of layers side by side whose weights are adjacent in memory, in fp32, or bf16 if `inner`.

    `inner` is for an output that goes into the next product without being added to anything.
    """
    return _HalfLinear.apply(half, x, HALF if inner else torch.float32, len(weights), *weights, *biases)  # type: ignore[return-value]


class _HalfConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, half: HalfProducts, x: Tensor, dtype: torch.dtype, weight, bias, geometry) -> Tensor:
        x_half = x.to(HALF, memory_format=torch.channels_last)
        weight_half = half.rounded(weight)
        ctx.save_for_backward(x_half, weight_half)
        ctx.geometry, ctx.dtype = geometry, x.dtype
        y = functional.conv2d(x_half, weight_half, None if bias is None else half.rounded(bias), *geometry)
        return y.to(dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        x_half, weight_half = ctx.saved_tensors
        _, needs_x, _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        dy = outputs[0].to(HALF, memory_format=torch.channels_last)
        mask = [needs_x, needs_weight, False]
        stride, padding, dilation = ctx.geometry
        gradients = torch.ops.aten.convolution_backward(
            dy, x_half, weight_half, None, stride, padding, dilation, False, [0, 0], 1, mask
        )
        d_bias = outputs[0].permute(0, 2, 3, 1).flatten(0, 2).sum(0, dtype=torch.float32) if needs_bias else None
        d_weight = gradients[1].to(torch.float32) if needs_weight else None
        return None, gradients[0].to(ctx.dtype) if needs_x else None, None, d_weight, d_bias, None


class _HalfLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, half: HalfProducts, x: Tensor, dtype: torch.dtype, count: int, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[:count], parameters[count:]
        joint = joint_view(weights)
        assert joint is not None  # the caller has checked
        learns = weights[0].requires_grad
        weight_half = (joint.to(HALF) if learns else half.rounded(joint)).flatten(1)
        bias = torch.cat([each.detach() for each in biases]).to(HALF) if biases else None
        x_half = x.to(HALF)
        ctx.save_for_backward(x_half, weight_half)
        ctx.dtype, ctx.shapes, ctx.biased = x.dtype, [weight.shape for weight in weights], len(biases)
        return functional.linear(x_half, weight_half, bias).to(dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        x_half, weight_half = ctx.saved_tensors
        needs_parameters = ctx.needs_input_grad[4:]
        dy = outputs[0].reshape(-1, weight_half.shape[0])
        rows = dy.to(HALF)
        d_x = (rows @ weight_half).to(ctx.dtype).view(x_half.shape) if ctx.needs_input_grad[1] else None
        sizes = [shape[0] for shape in ctx.shapes]
        d_weights: list[Tensor | None] = [None] * len(sizes)
        if needs_parameters[0]:
            joint = (rows.mT @ x_half.reshape(-1, x_half.shape[-1])).to(torch.float32)
            d_weights = [part.view(shape) for part, shape in zip(joint.split(sizes), ctx.shapes, strict=True)]
        d_biases: list[Tensor | None] = [None] * ctx.biased
        if any(needs_parameters[len(sizes) :]):
            d_biases = list(dy.sum(0, dtype=torch.float32).split(sizes))
        return None, d_x, None, None, *d_weights, *d_biases
