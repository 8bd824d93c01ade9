"""Matrix products and convolutions in bf16 between activations in fp32, for processors that multiply bf16 in hardware.

Such a processor (AMX) multiplies bf16 many times as fast as fp32 and adds up in fp32, but computes everything else
slower in bf16. So inside a block of `HalfProducts` the layers below round their inputs and weights to bf16, and norms,
sums, softmax and everything that is learnt stay in fp32.

Shapes: pictures (B, C, H, W) in channels-last order, rows (N…, C), weights (D, C, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels.linear import below_one_another

HALF = torch.bfloat16
FEWEST_ROWS = 128  # of what a layer reads; below, rounding takes as long as it saves

_current: ContextVar[HalfProducts | None] = ContextVar("half products", default=None)


class HalfProducts:
    """A block in which layers on a processor compute their products in bf16; it keeps frozen weights rounded."""

    def __init__(self) -> None:
        self._frozen: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}  # weights are held: no address is used again

    def __enter__(self) -> HalfProducts:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)

    def rounded(self, weight: Tensor) -> Tensor:
        """`weight` in bf16, ordered in memory as it is: of a frozen one always the same, else a new one."""
        if weight.requires_grad:
            return weight.detach().to(HALF)
        key = (weight.data_ptr(), weight.shape)
        if key not in self._frozen:
            self._frozen[key] = (weight.detach(), weight.detach().to(HALF))
        return self._frozen[key][1]


def half_products(x: Tensor) -> HalfProducts | None:
    """The block that the caller is in, where products of `x` (pictures or rows) gain by it."""
    return _current.get() if x.numel() // x.shape[1 if x.dim() == 4 else -1] >= FEWEST_ROWS else None


def half_convolution(
    half: HalfProducts, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any, inner: bool = False
) -> Tensor:
    """The output (B, D, H', W') of a convolution, in fp32, or bf16 if `inner`.

    `geometry` is its stride, padding and dilation; `inner` is for what is normalised before anything is added to it.
    """
    dtype = HALF if inner else torch.float32
    return _HalfConvolution.apply(half, x, dtype, weight, bias, geometry)  # type: ignore[return-value]


def half_linear(
    half: HalfProducts, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), *, inner: bool = False
) -> Tensor:
    """Outputs (N…, J·D) of layers side by side whose weights lie below one another, in fp32, or bf16 if `inner`.

    `inner` is for what goes into the next product without being added to anything.
    """
    return _HalfLinear.apply(half, x, HALF if inner else torch.float32, len(weights), *weights, *biases)  # type: ignore[return-value]


class _HalfConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, half: HalfProducts, x: Tensor, dtype: torch.dtype, weight, bias, geometry) -> Tensor:
        near = x.to(HALF, memory_format=torch.channels_last)
        own = half.rounded(weight)
        ctx.save_for_backward(near, own)
        ctx.geometry, ctx.dtype = geometry, x.dtype
        y = functional.conv2d(near, own, None if bias is None else half.rounded(bias), *geometry)
        return y.to(dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        near, own = ctx.saved_tensors
        _, for_x, _, for_weight, for_bias, _ = ctx.needs_input_grad
        dy = outputs[0].to(HALF, memory_format=torch.channels_last)
        mask = [for_x, for_weight, False]
        stride, padding, dilation = ctx.geometry
        found = torch.ops.aten.convolution_backward(
            dy, near, own, None, stride, padding, dilation, False, [0, 0], 1, mask
        )
        d_bias = outputs[0].permute(0, 2, 3, 1).flatten(0, 2).sum(0, dtype=torch.float32) if for_bias else None
        d_weight = found[1].to(torch.float32) if for_weight else None
        return None, found[0].to(ctx.dtype) if for_x else None, None, d_weight, d_bias, None


class _HalfLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, half: HalfProducts, x: Tensor, dtype: torch.dtype, count: int, *learning: Tensor) -> Tensor:
        weights, biases = learning[:count], learning[count:]
        joint = below_one_another(weights)
        assert joint is not None  # the caller has seen to it
        learns = weights[0].requires_grad
        own = (joint.to(HALF) if learns else half.rounded(joint)).flatten(1)
        bias = torch.cat([each.detach() for each in biases]).to(HALF) if biases else None
        near = x.to(HALF)
        ctx.save_for_backward(near, own)
        ctx.dtype, ctx.shapes, ctx.biased = x.dtype, [weight.shape for weight in weights], len(biases)
        return functional.linear(near, own, bias).to(dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        near, own = ctx.saved_tensors
        of_rest = ctx.needs_input_grad[4:]
        dy = outputs[0].reshape(-1, own.shape[0])
        rows = dy.to(HALF)
        d_x = (rows @ own).to(ctx.dtype).view(near.shape) if ctx.needs_input_grad[1] else None
        sizes = [shape[0] for shape in ctx.shapes]
        d_weights: list[Tensor | None] = [None] * len(sizes)
        if of_rest[0]:
            joint = (rows.mT @ near.reshape(-1, near.shape[-1])).to(torch.float32)
            d_weights = [part.view(shape) for part, shape in zip(joint.split(sizes), ctx.shapes, strict=True)]
        d_biases: list[Tensor | None] = [None] * ctx.biased
        if any(of_rest[len(sizes) :]):
            d_biases = list(dy.sum(0, dtype=torch.float32).split(sizes))
        return None, d_x, None, None, *d_weights, *d_biases
