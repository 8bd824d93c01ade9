"""Scaled dot-product attention (Vaswani et al. 2017, equation 1), by whichever kernel is the fastest for its shape.

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

LONGEST_PROMPT, WIDEST_HEAD = 128, 128  # keys and values that a program of the short kernel holds whole
ROOMY = (9, 10)  # compute capabilities whose multiprocessors share 227 KiB: its tiles do not fit those with 100


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """What each token attends to (B, T, h·d); with `causal` to itself and the tokens before it alone (S = T)."""
    if _is_short(query, key, heads):
        return _ShortAttention.apply(query, key, value, heads, causal)  # type: ignore[return-value]
    return plain_attention(query, key, value, heads, causal=causal)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """`attention` by torch's own kernels."""
    key, value = key.to(query.dtype), value.to(query.dtype)  # a short prompt's may be in fp32 where query is not
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
    """Attention to a prompt: torch's kernels give each a program a stretch of keys, of which there is only one."""
    few = key.shape[1] <= LONGEST_PROMPT and query.shape[2] // heads <= WIDEST_HEAD
    return few and has_triton(query) and _has_room(query.device) and query.dtype == key.dtype != torch.float64


@cache
def _has_room(device: torch.device) -> bool:
    """Whether the short kernel's tiles fit; Triton's interpreter on a CPU, for tests, has no bounds."""
    if device.type != "cuda":
        return True
    return torch.version.hip is None and torch.cuda.get_device_capability(device)[0] in ROOMY


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
        found = attention_amx.attend_backward(outputs[0], query, key, value, attended, sums, ctx.heads)
        return *found, None


class _HalfAttention(torch.autograd.Function):
    """torch's attention of a processor, bf16 forward and fp32 backward: 5.8 and 16.6 ms, the other ways 8.5 and 28."""

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
        wide = [each.float() for each in (outputs[0], *tensors)]
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        found = kernel(*wide, sums, 0.0, ctx.causal)
        return *(gradient.to(torch.bfloat16) for gradient in found), None


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
        of_all = attend_backward(d_attended, query, key, value, attended, sums, ctx.heads, ctx.causal)
        return *of_all, None, None
