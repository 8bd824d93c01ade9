"""The gated linear unit's kernels. Rows are (N, 2D), h before gate; outputs are numbered through as (N·D)."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def gate(x: Tensor) -> Tensor:
    """h gelu(gate) (…, D) of a contiguous x (…, 2D)."""
    y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    _gate[(triton.cdiv(y.numel(), BLOCK),)](x, y, y.numel(), y.shape[-1], BLOCK=BLOCK)
    return y


def gate_backward(dy: Tensor, x: Tensor) -> Tensor:
    """The gradient of x (…, 2D)."""
    dx = torch.empty_like(x)
    _gate_backward[(triton.cdiv(dy.numel(), BLOCK),)](dy, x, dx, dy.numel(), dy.shape[-1], BLOCK=BLOCK)
    return dx


@triton.jit
def _gate(x, y, count, D, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    own = i < count
    place = i + (i // D) * D
    h = tl.load(x + place, mask=own, other=0.0).to(tl.float32)
    g = tl.load(x + place + D, mask=own, other=0.0).to(tl.float32)
    share = 0.5 * (1.0 + tl.erf(g * 0.7071067811865476))
    tl.store(y + i, (h * g * share).to(y.dtype.element_ty), mask=own)


@triton.jit
def _gate_backward(dy, x, dx, count, D, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    own = i < count
    place = i + (i // D) * D
    h = tl.load(x + place, mask=own, other=0.0).to(tl.float32)
    g = tl.load(x + place + D, mask=own, other=0.0).to(tl.float32)
    d = tl.load(dy + i, mask=own, other=0.0).to(tl.float32)
    share = 0.5 * (1.0 + tl.erf(g * 0.7071067811865476))
    density = 0.3989422804014327 * tl.exp(-0.5 * g * g)
    tl.store(dx + place, (d * g * share).to(dx.dtype.element_ty), mask=own)
    tl.store(dx + place + D, (d * h * (share + g * density)).to(dx.dtype.element_ty), mask=own)
