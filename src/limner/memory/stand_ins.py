"""What a GPU's kernels keep and need, where "meta" would count what they do not: each makes and saves, without content.

Kernels of torch (fused attention) and of limner (the blocks' fused forms) are stood in for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.blocks import forms, layers, text_forms


@contextlib.contextmanager
def kernels_stood_in_for() -> Iterator[None]:
    """A block in which these functions take shapes for what the GPU's own would do with them."""
    replaced = {
        (functional, "scaled_dot_product_attention"): lambda q, k, v, *_, **__: _Attention.apply(q, k, v),
        (forms, "group_norm"): lambda x, weight, bias, *_, shift=None, **__: _Norm.apply(x, weight, bias, shift),
        (layers, "add_layer_norm"): lambda x, residual, weight, bias, *_: _AddNorm.apply(x, residual, weight, bias),
        (forms, "gelu_gate"): lambda x: _Unit.apply(x, x.shape[-1] // 2),
        (text_forms, "quick_gelu"): lambda x: _Unit.apply(x, x.shape[-1]),
        (torch, "autocast"): lambda *_, **__: contextlib.nullcontext(),  # "meta" knows none, and one precision is used
    }
    originals = {target: getattr(*target) for target in replaced}
    try:
        for target, stand_in in replaced.items():
            setattr(*target, stand_in)
        yield
    finally:
        for target, function in originals.items():
            setattr(*target, function)


class _Norm(torch.autograd.Function):
    """`kernels.group_norm`: keeps its input and a few numbers a channel, not what it gave to SiLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias, shift)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return _like(ctx)


class _AddNorm(torch.autograd.Function):
    """`kernels.layer_norm`: a sum and its norm, keeping the sum; both summands get the same gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.empty_like(x)
        ctx.save_for_backward(total, weight, bias)
        return total, torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        total, weight, bias = ctx.saved_tensors
        gradient = torch.empty_like(total)
        learns = ctx.needs_input_grad[2]
        return gradient, gradient, *((torch.empty_like(weight), torch.empty_like(bias)) if learns else (None, None))


class _Unit(torch.autograd.Function):
    """`kernels.gelu_gate` and `kernels.quick_gelu`: they keep their input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int) -> Tensor:
        ctx.save_for_backward(x)
        return x.new_empty(*x.shape[:-1], width)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return torch.empty_like(ctx.saved_tensors[0]), None


def _like(ctx: Any) -> tuple[Tensor | None, ...]:
    """A gradient for each saved input that wants one."""
    saved = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
    return tuple(torch.empty_like(tensor) if tensor is not None and needed else None for tensor, needed in saved)


class _Attention(torch.autograd.Function):
    """Shapes (B, heads, rows, head size); no score matrix is ever whole (FlashAttention-2, Dao 2023, section 3.1)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, rows, size = query.shape
        result = query.new_empty(batch, rows, heads, size).transpose(1, 2)
        log_sum = query.new_empty(batch, heads, rows, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, result, log_sum)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, log_sum = ctx.saved_tensors
        accumulated = query.new_empty(query.shape, dtype=torch.float32)  # of the queries, block by block
        delta = torch.empty_like(log_sum)
        results = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del accumulated, delta
        return results
