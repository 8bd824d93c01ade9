"""A linear layer with V low-rank updates side by side, one for each of V equal groups of its input's rows.

Hu et al., "LoRA", 2022, equation 3: h = W x + scale · up(down(x)), for each group with its own down, up and scale.

Shapes: V variants of N rows each; C inputs and D outputs; R the largest rank, smaller ones padded with zeros. A padded
row of `down` meets a padded column of `up`, so that neither ever gets a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    scales: Sequence[float],
    gradients: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Output (V·N…, D) of a frozen layer and its updates, in the frozen weight's precision.

    `x` is (V·N…, C), `weight` (D, C), `down` (V, R, C), `up` (V, D, R). With `gradients`, two tensors shaped as `down`
    and `up`, the backward pass adds the updates' gradients there itself and autograd sees none: one matrix product
    instead of a product and a sum. Gradients flow to `x`, `down` and `up` only: weight and bias are frozen.
    """
    return _LowRankLinear.apply(x.to(weight.dtype), weight, bias, down, up, tuple(scales), gradients)  # type: ignore[return-value]


class _LowRankLinear(torch.autograd.Function):
    """Three matrix products forward, five backward, whatever the number of variants."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight, bias, down, up, scales, gradients) -> Tensor:
        variants = down.shape[0]
        with torch.autocast(x.device.type, enabled=False):
            near, far = down.to(x.dtype), up.to(x.dtype)
            y = functional.linear(x, weight, bias)  # (V·N…, D)
            rows = x.reshape(variants, -1, x.shape[-1])  # (V, N, C)
            hidden = torch.bmm(rows, near.mT)  # (V, N, R)
            scale = _as_factor(hidden, scales)
            y.view(variants, -1, y.shape[-1]).baddbmm_(hidden, far.mT, alpha=scale)
        ctx.save_for_backward(x, weight, down, up, hidden)
        ctx.scale, ctx.scales, ctx.gradients = scale, scales, gradients
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, hidden = ctx.saved_tensors
        (dy,) = outputs
        variants = down.shape[0]
        with torch.autocast(x.device.type, enabled=False):
            dy = dy.to(x.dtype)
            rows, d_rows = x.reshape(variants, -1, x.shape[-1]), dy.reshape(variants, -1, dy.shape[-1])
            d_hidden = torch.bmm(d_rows, up.to(x.dtype))  # (V, N, R)
            _as_factor(d_hidden, ctx.scales)
            near, far = ctx.gradients or (None, None)
            d_down = _added(near, down, d_hidden.mT, rows, ctx.scale)
            d_up = _added(far, up, d_rows.mT, hidden, ctx.scale)
            dx = None
            if ctx.needs_input_grad[0]:
                dx = functional.linear(dy, weight.mT)  # (V·N…, C)
                dx.view(rows.shape).baddbmm_(d_hidden, down.to(x.dtype), alpha=ctx.scale)
        return dx, None, None, d_down, d_up, None, None


def _as_factor(hidden: Tensor, scales: Sequence[float]) -> float:
    """The scale that all variants share, or 1 after `hidden` (V, N, R) took each variant's own in place."""
    if all(scale == scales[0] for scale in scales):
        return scales[0]
    for part, scale in zip(hidden, scales, strict=True):
        part.mul_(scale)
    return 1.0


def _added(gradient: Tensor | None, like: Tensor, left: Tensor, right: Tensor, scale: float) -> Tensor | None:
    """scale · left @ right: added to `gradient` where one is given, else returned for autograd."""
    if gradient is None:
        product = torch.bmm(left, right)
        return (product if scale == 1.0 else product.mul_(scale)).to(like.dtype)
    if gradient.dtype == left.dtype:
        gradient.baddbmm_(left, right, alpha=scale)
    else:
        gradient.add_(torch.bmm(left, right), alpha=scale)
    return None
