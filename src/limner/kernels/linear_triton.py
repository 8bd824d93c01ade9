"""Sums of columns in two stages, or one for few rows: torch's reduction over rows leaves most of a GPU idle."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.launching import kernel

COLUMNS, ROWS = 64, 32  # a tile
PARTS = 64  # of a tile of the second stage
PROGRAMS = 528  # about four for each multiprocessor of a large GPU
FEW_ROWS = 256  # a second launch would take longer than a program's loop over them


def sums_of_columns(x: Tensor) -> Tensor:
    """(C,) of x (N, C), in its precision; summed in fp32."""
    x = x.contiguous()
    rows, columns = x.shape
    blocks = triton.cdiv(columns, COLUMNS)
    wanted_parts = 1 if rows <= FEW_ROWS else max(1, PROGRAMS // blocks)
    chunk = triton.cdiv(triton.cdiv(rows, wanted_parts), ROWS) * ROWS
    parts = triton.cdiv(rows, chunk)
    sums = x.new_empty(parts, columns, dtype=x.dtype if parts == 1 else torch.float32)
    _column_sums[(parts, blocks)](x, sums, rows, columns, chunk, BLOCK_C=COLUMNS, BLOCK_R=ROWS)
    return sums[0] if parts == 1 else sums_of_parts(sums[None], x.dtype)[0]


def sums_of_parts(partial: Tensor, dtype: torch.dtype) -> Tensor:
    """(K, C) in `dtype`: sums over the parts of fp32 `partial` (K, N, C), in a fixed order."""
    kinds, parts, columns = partial.shape
    sums = partial.new_empty(kinds, columns, dtype=dtype)
    _sum_parts[(triton.cdiv(columns, COLUMNS), kinds)](partial, sums, parts, columns, BLOCK_C=COLUMNS, BLOCK_N=PARTS)
    return sums


@kernel(unspecialised=["R", "CHUNK"])
def _column_sums(x, sums, R, C, CHUNK, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr):
    part = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    valid = c < C
    total = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)  # its rows are added up once, at the end
    for start in range(part * CHUNK, min(part * CHUNK + CHUNK, R), BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        inside = (r < R)[:, None] & valid[None, :]
        offset = r.to(tl.int64)[:, None] * C + c[None, :]
        total += tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(sums + part * C + c, tl.sum(total, 0).to(sums.dtype.element_ty), mask=valid)


@kernel(unspecialised=["N"])
def _sum_parts(partial, sums, N, C, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr):
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    kind = tl.program_id(1)
    total = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & (c < C)[None, :]
        total += tl.load(partial + (kind * N + n)[:, None] * C + c[None, :], mask=inside, other=0.0)
    tl.store(sums + kind * C + c, tl.sum(total, 0).to(sums.dtype.element_ty), mask=c < C)
