"""A trained convolution, with the gradient of its weight on a side stream.

Shapes: pictures (B, C, H, W) in channels-last order, weights (D, C, h, w).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.kernels.available import has_triton
from limner.kernels.side_stream import SideStream, returned_gradients


def convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The output (B, D, H', W') of a convolution without its bias."""
    plain = layer.groups == 1 and isinstance(layer.padding, tuple)
    if plain and layer.weight.requires_grad and has_triton(x):
        return _Convolution.apply(x, layer.weight, layer.stride, layer.padding, layer.dilation)  # type: ignore[return-value]
    return functional.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *geometry: Any) -> Tensor:
        y = functional.conv2d(x, weight, None, *geometry)
        ctx.save_for_backward(x.to(y.dtype), weight)  # autocast may have computed in half precision
        ctx.geometry, ctx.side_stream = geometry, SideStream.current()
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        dy = outputs[0].contiguous(memory_format=torch.channels_last)

        def gradient(which: int) -> Tensor:
            mask = [which == 0, which == 1, False]
            converted = weight.to(dy.dtype)
            return torch.ops.aten.convolution_backward(dy, x, converted, None, *ctx.geometry, False, [0, 0], 1, mask)[
                which
            ]

        d_weight = (
            returned_gradients(ctx.side_stream, [weight], lambda: [gradient(1)], x, dy)
            if ctx.needs_input_grad[1]
            else [None]
        )
        dx = gradient(0) if ctx.needs_input_grad[0] else None
        return dx, *d_weight, None, None, None
