"""A convolution's bias and the residual sum after it in one kernel; torch adds a bias to channels-last pictures slowly.

Shapes: pictures (B, C, H, W) in channels-last order, a bias (C,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.kernels.available import has_triton
from limner.kernels.linear import column_sums
from limner.kernels.side_stream import SideStream, returned_gradients


def add_bias(x: Tensor, bias: Tensor | None, residual: Tensor | None = None) -> Tensor:
    """x + bias + residual (B, C, H, W), each if given; channels-last where x is."""
    if bias is None:
        return x if residual is None else x + residual
    if has_triton(x) and x.is_contiguous(memory_format=torch.channels_last):
        return _AddBias.apply(x, bias, residual)  # type: ignore[return-value]
    return plain_add_bias(x, bias, residual)


def plain_add_bias(x: Tensor, bias: Tensor, residual: Tensor | None = None) -> Tensor:
    """`add_bias` in plain torch."""
    if residual is None:
        return x + bias[:, None, None].to(x.dtype)
    y = x + residual
    return y.add_(bias[:, None, None].to(y.dtype))


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
        from limner.kernels.residual_triton import sum_with_bias

        if residual is not None:
            residual = residual.contiguous(memory_format=torch.channels_last)
        ctx.side_stream, ctx.bias = SideStream.current(), bias
        return sum_with_bias(x, bias, residual)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        dy = outputs[0].contiguous(memory_format=torch.channels_last)
        d_bias: Sequence[Tensor | None] = [None]
        if ctx.needs_input_grad[1]:
            d_bias = returned_gradients(ctx.side_stream, [ctx.bias], lambda: [column_sums(dy.permute(0, 2, 3, 1))], dy)
        return dy, *d_bias, dy if ctx.needs_input_grad[2] else None
