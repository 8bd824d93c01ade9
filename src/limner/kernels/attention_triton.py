"""Attention to few keys: a program holds all of them and processes one block of queries after another.

Dao et al., "FlashAttention", 2022, algorithms 1 and 4, with a single block of keys. Arithmetic is fp32 around matrix
products in the inputs' precision. Shapes: queries (B, T, h·d), keys and values (B, S, h·d), whose last dimension is
contiguous; L (B·h, T) the logarithms of the softmax's sums.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.launching import kernel

PROGRAMS = 264  # two for each of a large GPU's 132 multiprocessors
SMALLEST = 16  # side of a matrix product
NARROW = 64  # heads up to this width leave memory for larger blocks of queries


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> tuple[Tensor, Tensor]:
    """The attention's output (B, T, h·d), and L (B·h, T)."""
    query, key, value = (_with_contiguous_rows(each) for each in (query, key, value))
    batch, tokens, width = query.shape
    attended = query.new_empty(batch, tokens, width)
    sums = torch.empty(batch * heads, tokens, dtype=torch.float32, device=query.device)
    sizes = _sizes(key, width // heads)
    _attend[(triton.cdiv(tokens, sizes["QUERIES"]), batch * heads)](
        query, key, value, attended, sums, *_strides(query, key, value), tokens, key.shape[1], heads,
        CAUSAL=causal, **sizes,
    )  # fmt: skip
    return attended, sums


def attend_backward(
    d_attended: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attended: Tensor,
    sums: Tensor,
    heads: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values; the latter two are sums over blocks of queries in a fixed order."""
    query, key, value = (_with_contiguous_rows(each) for each in (query, key, value))
    batch, tokens, width = query.shape
    sizes = _sizes(key, width // heads)
    blocks = triton.cdiv(tokens, sizes["QUERIES"])
    splits = min(blocks, max(1, PROGRAMS // (batch * heads)))
    d_query = torch.empty_like(attended)
    parts = torch.empty(2, splits, batch, key.shape[1], width, dtype=torch.float32, device=query.device)
    _attend_backward[(splits, batch * heads)](
        d_attended, query, key, value, attended, sums, d_query, parts, *_strides(query, key, value),
        tokens, key.shape[1], heads, triton.cdiv(blocks, splits), CAUSAL=causal, **sizes,
    )  # fmt: skip
    d_key, d_value = parts.sum(1).to(key.dtype).unbind(0)
    return d_query, d_key, d_value


def _with_contiguous_rows(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 else x.contiguous()


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for tensor in tensors for stride in tensor.stride()[:2]]


def _sizes(key: Tensor, width: int) -> dict[str, Any]:
    """A program's tiles. Larger blocks of wide heads would not fit in its memory; fp32 takes twice as much."""
    keys, lanes = (max(SMALLEST, triton.next_power_of_2(size)) for size in (key.shape[1], width))
    is_fp32 = key.dtype == torch.float32
    queries, warps = (128, 8) if lanes <= NARROW and not is_fp32 else (32 if is_fp32 else 64, 4)
    precision = "ieee" if is_fp32 else "tf32"
    tiles = {"D": width, "KEYS": keys, "LANES": lanes, "QUERIES": queries, "PRECISION": precision}
    return {**tiles, "num_warps": warps}


@triton.jit
def _rows(x, batch, head, batch_stride, row_stride, rows, count, D: tl.constexpr, LANES: tl.constexpr):
    """A head's numbers (rows, LANES) in some rows, zeros beyond the last row and beyond its width."""
    lane = tl.arange(0, LANES)
    address = x + batch.to(tl.int64) * batch_stride + head * D + rows.to(tl.int64)[:, None] * row_stride + lane[None, :]
    return tl.load(address, mask=(rows < count)[:, None] & (lane < D)[None, :], other=0.0)


@triton.jit
def _scores(q, k, rows, S, scale, D: tl.constexpr, KEYS: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr):
    """Scaled products (rows, KEYS) of queries and keys, minus infinity where nothing is attended to."""
    column = tl.arange(0, KEYS)
    seen = (column < S)[None, :]
    if CAUSAL:
        seen = seen & (column[None, :] <= rows[:, None])
    return tl.where(seen, tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale, float("-inf"))


@kernel(unspecialised=["T"])
def _attend(
    query, key, value, attended, sums, q_batch, q_row, k_batch, k_row, v_batch, v_row, T, S, heads,
    CAUSAL: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr, QUERIES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    rows, columns = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES), tl.arange(0, KEYS)
    q = _rows(query, batch, head, q_batch, q_row, rows, T, D, LANES)
    k = _rows(key, batch, head, k_batch, k_row, columns, S, D, LANES)
    v = _rows(value, batch, head, v_batch, v_row, columns, S, D, LANES)
    scores = _scores(q, k, rows, S, 1.0 / tl.sqrt(D * 1.0), D, KEYS, CAUSAL, PRECISION)
    largest = tl.max(scores, axis=1)
    shares = tl.exp(scores - largest[:, None])
    total = tl.sum(shares, axis=1)
    output = tl.dot(shares.to(v.dtype), v, input_precision=PRECISION) / total[:, None]
    lane = tl.arange(0, LANES)
    address = attended + (batch.to(tl.int64) * T + rows[:, None]) * (heads * D) + head * D + lane[None, :]
    tl.store(address, output.to(attended.dtype.element_ty), mask=(rows < T)[:, None] & (lane < D)[None, :])
    tl.store(sums + tl.program_id(1).to(tl.int64) * T + rows, largest + tl.log(total), mask=rows < T)


@kernel(unspecialised=["T", "blocks"])
def _attend_backward(
    d_attended, query, key, value, attended, sums, d_query, parts,
    q_batch, q_row, k_batch, k_row, v_batch, v_row, T, S, heads, blocks,
    CAUSAL: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr, QUERIES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    columns, lane, width, scale = tl.arange(0, KEYS), tl.arange(0, LANES), heads * D, 1.0 / tl.sqrt(D * 1.0)
    k = _rows(key, batch, head, k_batch, k_row, columns, S, D, LANES)
    v = _rows(value, batch, head, v_batch, v_row, columns, S, D, LANES)
    dk, dv = tl.zeros((KEYS, LANES), tl.float32), tl.zeros((KEYS, LANES), tl.float32)
    batch_stride = T.to(tl.int64) * width
    for block in range(tl.program_id(0) * blocks, (tl.program_id(0) + 1) * blocks):
        rows = block * QUERIES + tl.arange(0, QUERIES)
        q = _rows(query, batch, head, q_batch, q_row, rows, T, D, LANES)
        o = _rows(attended, batch, head, batch_stride, width, rows, T, D, LANES)
        do = _rows(d_attended, batch, head, batch_stride, width, rows, T, D, LANES)
        logarithms = tl.load(sums + tl.program_id(1).to(tl.int64) * T + rows, mask=rows < T, other=0.0)
        scores = _scores(q, k, rows, S, scale, D, KEYS, CAUSAL, PRECISION)
        shares = tl.exp(scores - logarithms[:, None])  # (QUERIES, KEYS)
        dv += tl.dot(tl.trans(shares.to(do.dtype)), do, input_precision=PRECISION)
        d_shares = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        row_sums = tl.sum(o.to(tl.float32) * do.to(tl.float32), axis=1)
        d_scores = (shares * (d_shares - row_sums[:, None]) * scale).to(q.dtype)
        dk += tl.dot(tl.trans(d_scores), q, input_precision=PRECISION)
        dq = tl.dot(d_scores, k, input_precision=PRECISION)
        address = (
            d_query + batch.to(tl.int64) * batch_stride + rows.to(tl.int64)[:, None] * width + head * D + lane[None, :]
        )
        tl.store(address, dq.to(d_query.dtype.element_ty), mask=(rows < T)[:, None] & (lane < D)[None, :])
    batches = tl.num_programs(1) // heads
    part = (tl.program_id(0) * batches + batch).to(tl.int64) * S * width
    address = parts + part + columns[:, None] * width + head * D + lane[None, :]
    valid = (columns < S)[:, None] & (lane < D)[None, :]
    tl.store(address, dk, mask=valid)
    tl.store(address + (tl.num_programs(0) * batches).to(tl.int64) * S * width, dv, mask=valid)
