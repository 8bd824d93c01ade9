"""Scaled dot-product attention (Vaswani et al. 2017, equation 1), by the fastest kernel for its shape.

Shapes: queries (B, T, h·d), keys and values (B, S, h·d), h heads of d numbers side by side.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels import attention_amx
from limner.kernels.available import has_triton

LONGEST_PROMPT, WIDEST_HEAD = 128, 128  # limits of the short kernel, whose programs hold all keys and values
LARGE_SHARED_MEMORY = (9, 10)  # compute capabilities with 227 KiB a multiprocessor: its tiles do not fit in 100 KiB


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """The attention's output (B, T, h·d); with `causal` a token attends to itself and earlier tokens only (S = T)."""
    if _is_short(query, key, heads):
        return _ShortAttention.apply(query, key, value, heads, causal)  # type: ignore[return-value]
    return plain_attention(query, key, value, heads, causal=causal)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """`attention` by torch's own kernels."""
    key, value = key.to(query.dtype), value.to(query.dtype)  # a short prompt's may be fp32 where the query is not
    half = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if half and not causal and attention_amx.has_tiles():
        return _TiledAttention.apply(query, key, value, heads)  # type: ignore[return-value]
    q, k, v = (each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (query, key, value))  # (B, h, ., d)
    if half:
        attended = _HalfAttention.apply(q, k, v, causal)
    else:
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)  # (B, h, T, d)
    return attended.transpose(1, 2).flatten(2)  # type: ignore[union-attr]


def _is_short(query: Tensor, key: Tensor, heads: int) -> bool:
    """Attention to a prompt: torch's kernels give each program a segment of keys, and here there is only one."""
    short = key.shape[1] <= LONGEST_PROMPT and query.shape[2] // heads <= WIDEST_HEAD
    return short and has_triton(query) and _has_room(query.device) and query.dtype == key.dtype != torch.float64


@cache
def _has_room(device: torch.device) -> bool:
    """Whether the short kernel's tiles fit; on a CPU Triton's interpreter, used in tests, has no limit."""
    if device.type != "cuda":
        return True
    return torch.version.hip is None and torch.cuda.get_device_capability(device)[0] in LARGE_SHARED_MEMORY


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        attended, sums = attention_amx.attend(query, key, value, heads)
        ctx.save_for_backward(query, key, value, attended, sums)
        ctx.heads = heads
        return attended

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attended, sums = ctx.saved_tensors
        gradients = attention_amx.attend_backward(outputs[0], query, key, value, attended, sums, ctx.heads)
        return *gradients, None


class _HalfAttention(torch.autograd.Function):
    """torch's attention on a processor, bf16 forward, fp32 backward: 5.8 and 16.6 ms, the alternatives 8.5 and 28."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        attended, sums = kernel(query, key, value, 0.0, causal)
        ctx.save_for_backward(query, key, value, attended, sums)
        ctx.causal = causal
        return attended

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, sums = ctx.saved_tensors
        widened = [each.float() for each in (outputs[0], *tensors)]
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        gradients = kernel(*widened, sums, 0.0, ctx.causal)
        return *(gradient.to(torch.bfloat16) for gradient in gradients), None


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
        from limner.kernels.attention_triton import attend

        attended, sums = attend(query, key, value, heads, causal)
        ctx.save_for_backward(query, key, value, attended, sums)
        ctx.heads, ctx.causal = heads, causal
        return attended

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        from limner.kernels.attention_triton import attend_backward

        query, key, value, attended, sums = ctx.saved_tensors
        d_attended = outputs[0].contiguous()
        gradients = attend_backward(d_attended, query, key, value, attended, sums, ctx.heads, ctx.causal)
        return *gradients, None, None
