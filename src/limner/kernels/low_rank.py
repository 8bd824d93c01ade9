"""Linear layers with V low-rank updates side by side, one for each of V equal groups of their input's rows.

Hu et al., "LoRA", 2022, equation 3: h = W x + scale · up(down(x)), for each group with its own down, up and scale.
Layers that read the same input (queries, keys and values) are computed jointly: their weights are adjacent in memory.

Shapes: V variants of N rows each; J layers of C inputs and D outputs; R the largest rank, smaller ones padded with
zeros. A padded row of `down` is multiplied by a padded column of `up`, so neither ever has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels.half_products import half_products
from limner.kernels.side_stream import SideStream

FP32_BYTES = 4


def low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    scales: Sequence[float],
    gradients: tuple[Tensor, Tensor] | None = None,
    learning: Sequence[Tensor] = (),
) -> Tensor:
    """Output (V·N…, J·D) of frozen layers and their updates, in the frozen weight's precision.

    `x` is (V·N…, C), `weight` (J·D, C), `down` (V, J·R, C), `up` (V, J, D, R). With `gradients`, two tensors shaped as
    `down` and `up`, the backward pass adds the updates' gradients there itself and autograd sees none: one matrix
    product instead of a product and a sum. `learning` names the parameters that `down` and `up` are views of, where
    they are not themselves. Gradients flow to `x`, `down` and `up` only: weight and bias are frozen.
    """
    if (half := half_products(x)) is not None:
        weight_half, bias_half = half.rounded(weight), None if bias is None else half.rounded(bias)
        arguments = (x.to(weight_half.dtype), weight_half, bias_half, down, up, tuple(scales), gradients, *learning)
        return _HalfLowRankLinear.apply(*arguments)  # type: ignore[return-value]
    arguments = (x.to(weight.dtype), weight, bias, down, up, tuple(scales), gradients, *learning)
    return _LowRankLinear.apply(*arguments)  # type: ignore[return-value]


class _LowRankLinear(torch.autograd.Function):
    """Two matrix products forward and three backward for all layers, and two small ones for each layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, down, up, scales, gradients, *parameters) -> Tensor:
        variants, layers = up.shape[:2]
        with torch.autocast(x.device.type, enabled=False):
            down_x, up_x = down.to(x.dtype), up.to(x.dtype)
            y = functional.linear(x, weight, bias)  # (V·N…, J·D)
            hidden = torch.bmm(_grouped(x, variants), down_x.mT)  # (V, N, J·R)
            scale = _as_factor(hidden, scales)
            outputs, inner = _by_layer(_grouped(y, variants), layers), _by_layer(hidden, layers)
            for out, each, columns in zip(*_batches(outputs, inner, up_x), strict=True):
                _add_product(out, each, columns.mT, scale)
        ctx.save_for_backward(x, weight, down, up, hidden)
        ctx.scale, ctx.scales, ctx.gradients, ctx.extra = scale, scales, gradients, len(parameters)
        ctx.side_stream = SideStream.current()
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, hidden = ctx.saved_tensors
        variants, layers = up.shape[:2]
        with torch.autocast(x.device.type, enabled=False):
            dy = outputs[0].to(x.dtype).contiguous()
            rows, d_outputs = _grouped(x, variants), _by_layer(_grouped(dy, variants), layers)
            d_hidden = torch.empty_like(hidden)
            d_inner = _by_layer(d_hidden, layers)
            for each, d_out, columns in zip(*_batches(d_inner, d_outputs, up.to(x.dtype)), strict=True):
                torch.bmm(d_out, columns, out=each)
            _as_factor(d_hidden, ctx.scales)
            down_x, up_x = ctx.gradients or (torch.zeros_like(down), torch.zeros_like(up))

            def add_gradients() -> None:
                _add_product(down_x, d_hidden.mT, rows, ctx.scale)
                for target, d_out, each in zip(*_batches(up_x, d_outputs, _by_layer(hidden, layers)), strict=True):
                    _add_product(target, d_out.mT, each, ctx.scale)

            if ctx.side_stream is None or not ctx.gradients:
                add_gradients()
            else:
                ctx.side_stream.run(add_gradients, d_hidden, rows, dy, hidden)
            dx = None
            if ctx.needs_input_grad[0]:
                dx = functional.linear(dy, weight.mT)  # (V·N…, C)
                _add_product(_grouped(dx, variants), d_hidden, down.to(x.dtype), ctx.scale)
        d_updates = (None, None) if ctx.gradients else (down_x, up_x)
        return dx, None, None, *d_updates, None, None, *[None] * ctx.extra


class _HalfLowRankLinear(torch.autograd.Function):
    """The same in bf16 on a processor: one product for all layers instead of one a layer, on contiguous operands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, down, up, scales, gradients, *parameters) -> Tensor:
        variants = len(up)
        factors = None if all(scale == 1 for scale in scales) else up.new_tensor(scales)[:, None, None, None]
        down_half = down.to(x.dtype)  # (V, J·R, C)
        up_half = _block_diagonal(up if factors is None else up * factors).to(x.dtype)  # (V, J·D, J·R)
        y = functional.linear(x, weight, bias)  # (V·N…, J·D)
        hidden = torch.bmm(_grouped(x, variants), down_half.mT)  # (V, N, J·R)
        _grouped(y, variants).baddbmm_(hidden, up_half.mT)
        ctx.save_for_backward(x, weight, down_half, up_half, hidden, down, up)
        ctx.factors, ctx.gradients, ctx.extra = factors, gradients, len(parameters)
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down_half, up_half, hidden, down, up = ctx.saved_tensors
        variants, layers = up.shape[:2]
        dy = outputs[0].contiguous()
        rows, d_rows = _grouped(x, variants), _grouped(dy, variants)
        d_hidden = torch.bmm(d_rows, up_half)  # (V, N, J·R)
        d_down, d_up = ctx.gradients or (torch.zeros_like(down), torch.zeros_like(up))
        d_down.add_(torch.bmm(d_hidden.mT, rows))
        d_blocks = _diagonal_blocks(torch.bmm(hidden.mT, d_rows), layers)  # (V, J, D, R)
        d_up.add_(d_blocks if ctx.factors is None else d_blocks * ctx.factors)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = functional.linear(dy, weight.mT)  # (V·N…, C)
            _grouped(dx, variants).baddbmm_(d_hidden, down_half)
        d_updates = (None, None) if ctx.gradients else (d_down, d_up)
        return dx, None, None, *d_updates, None, None, *[None] * ctx.extra


def _block_diagonal(up: Tensor) -> Tensor:
    """(V, J, D, R) as (V, J·D, J·R): each layer's own block, zeros elsewhere."""
    variants, layers, outputs, rank = up.shape
    if layers == 1:
        return up[:, 0]
    blocks = up.new_zeros(variants, layers, outputs, layers, rank)
    blocks.diagonal(dim1=1, dim2=3).copy_(up.permute(0, 2, 3, 1))
    return blocks.flatten(3).flatten(1, 2)


def _diagonal_blocks(products: Tensor, layers: int) -> Tensor:
    """(V, J, D, R) of (V, J·R, J·D): the product of each layer with itself."""
    if layers == 1:
        return products.mT[:, None]
    return products.unflatten(2, (layers, -1)).unflatten(1, (layers, -1)).diagonal(dim1=1, dim2=3).permute(0, 3, 2, 1)


def _grouped(rows: Tensor, variants: int) -> Tensor:
    """(V·N…, C) as (V, N, C)."""
    return rows.reshape(variants, -1, rows.shape[-1])


def _by_layer(joint: Tensor, layers: int) -> Tensor:
    """(V, N, J·K) as a view (V, J, N, K)."""
    return joint.unflatten(2, (layers, -1)).transpose(1, 2)


def _batches(*stacks: Tensor) -> list[list[Tensor]]:
    """Each (V, J, ., .) as batches (., ., .) for one product each: all layers of one variant, or a layer of all."""
    if stacks[0].shape[0] == 1:
        return [[stack[0]] for stack in stacks]
    return [list(stack.unbind(1)) for stack in stacks]


def _as_factor(hidden: Tensor, scales: Sequence[float]) -> float:
    """The scale that all variants share, or 1 after multiplying `hidden` (V, N, J·R) by each variant's scale."""
    if all(scale == scales[0] for scale in scales):
        return scales[0]
    for part, scale in zip(hidden, scales, strict=True):
        part.mul_(scale)
    return 1.0


def _add_product(target: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Add scale · left @ right to `target`, which may be of a higher precision.

    In one kernel, except for low precision on a CPU, where torch's is slow (bf16: 8,600 ms in a step that takes 500).
    """
    if target.dtype == left.dtype and (target.device.type != "cpu" or target.dtype.itemsize >= FP32_BYTES):
        target.baddbmm_(left, right, alpha=scale)
    else:
        target.add_(torch.bmm(left, right), alpha=scale)
