"""The gated linear unit's kernels. Rows are (N, 2D), h before gate."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.launching import kernel

COLUMNS, ROWS = 128, 16  # a tile


def gate(x: Tensor) -> Tensor:
    """h gelu(gate) (…, D) of a contiguous x (…, 2D)."""
    y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    rows, width = y.numel() // y.shape[-1], y.shape[-1]
    _gate[_grid(rows, width)](x, y, rows, width, BLOCK_R=ROWS, BLOCK_D=COLUMNS)
    return y


def gate_backward(dy: Tensor, x: Tensor) -> Tensor:
    """The gradient of x (…, 2D)."""
    dx = torch.empty_like(x)
    rows, width = dy.numel() // dy.shape[-1], dy.shape[-1]
    _gate_backward[_grid(rows, width)](dy, x, dx, rows, width, BLOCK_R=ROWS, BLOCK_D=COLUMNS)
    return dx


def _grid(rows: int, width: int) -> tuple[int, int]:
    return triton.cdiv(rows, ROWS), triton.cdiv(width, COLUMNS)


@triton.jit
def _tile(R, D, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    """Offsets of the program's numbers in rows of D and of 2D, and which are in range."""
    r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    row = r.to(tl.int64)[:, None] * D
    return row + d[None, :], 2 * row + d[None, :], (r < R)[:, None] & (d < D)[None, :]


@kernel(unspecialised=["R"])
def _gate(x, y, R, D, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    narrow, wide, valid = _tile(R, D, BLOCK_R, BLOCK_D)
    h = tl.load(x + wide, mask=valid, other=0.0).to(tl.float32)
    g = tl.load(x + wide + D, mask=valid, other=0.0).to(tl.float32)
    share = 0.5 * (1.0 + tl.erf(g * 0.7071067811865476))
    tl.store(y + narrow, (h * g * share).to(y.dtype.element_ty), mask=valid)


@kernel(unspecialised=["R"])
def _gate_backward(dy, x, dx, R, D, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    narrow, wide, valid = _tile(R, D, BLOCK_R, BLOCK_D)
    h = tl.load(x + wide, mask=valid, other=0.0).to(tl.float32)
    g = tl.load(x + wide + D, mask=valid, other=0.0).to(tl.float32)
    d = tl.load(dy + narrow, mask=valid, other=0.0).to(tl.float32)
    share = 0.5 * (1.0 + tl.erf(g * 0.7071067811865476))
    density = 0.3989422804014327 * tl.exp(-0.5 * g * g)
    tl.store(dx + wide, (d * g * share).to(dx.dtype.element_ty), mask=valid)
    tl.store(dx + wide + D, (d * h * (share + g * density)).to(dx.dtype.element_ty), mask=valid)
