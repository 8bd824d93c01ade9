"""A convolution that learns, with the gradient of its weight beside the main stream and its bias's from row sums.

Shapes: pictures (B, C, H, W) in channels-last order, weights (D, C, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.kernels.aside import current_aside, learnt
from limner.kernels.available import has_triton
from limner.kernels.linear import column_sums


def convolution(layer: nn.Conv2d, x: Tensor, *, bias: bool = True) -> Tensor:
    """The output (B, D, H', W') of a convolution, without its bias where that is added elsewhere."""
    added = layer.bias if bias else None
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
    if plain and layer.weight.requires_grad and has_triton(x):
        return _Convolution.apply(x, layer.weight, added, layer.stride, layer.padding, layer.dilation)  # type: ignore[return-value]
    return functional.conv2d(x, layer.weight, added, layer.stride, layer.padding, layer.dilation, layer.groups)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        y = functional.conv2d(x, weight, bias, *geometry)
        ctx.save_for_backward(x.to(y.dtype), weight)  # autocast may have computed in half of their precision
        ctx.geometry, ctx.aside, ctx.bias = geometry, current_aside(), bias
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        dy = outputs[0].contiguous(memory_format=torch.channels_last)
        rest = (None, *ctx.geometry, False, [0, 0], 1)

        def gradient(which: int) -> Tensor:
            mask = [index == which for index in range(3)]
            return torch.ops.aten.convolution_backward(dy, x, weight.to(dy.dtype), *rest, mask)[which]

        d_weight: Sequence[Tensor | None] = [None]
        if ctx.needs_input_grad[1]:
            d_weight = learnt(ctx.aside, [weight], lambda: [gradient(1)], x, dy)
        d_bias: Sequence[Tensor | None] = [None]
        if ctx.needs_input_grad[2]:
            rows = dy.permute(0, 2, 3, 1)  # (B, H', W', D)
            d_bias = learnt(ctx.aside, [ctx.bias], lambda: [column_sums(rows)], dy)
        dx = gradient(0) if ctx.needs_input_grad[0] else None
        return dx, *d_weight, *d_bias, None, None, None
