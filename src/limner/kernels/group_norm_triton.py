"""Group normalisation's kernels. Pictures are read as (B, P, C), P = H·W positions, channels side by side.

Forward: sums over positions of each channel, in chunks; from them each channel's factor and addend; y = f(x a + s).
Backward: with z = x a + s and dz = dy f'(z), sums of dz and dz·x; from them dx = a dz + p x + q, whose sum over
positions, the shift's gradient, follows from the same sums.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS, ROWS = 64, 32  # a tile
PROGRAMS = 528  # about four for each multiprocessor of a large GPU


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, epsilon: float, silu: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """y (B, C, H, W), and what the backward pass needs: factors, addends, sums (B, C), means and 1/deviation (B, G)."""
    batch, channels, positions = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    chunk_rows, chunks, blocks = _grid(batch, positions, channels)
    partial = x.new_empty(2, batch, chunks, channels, dtype=torch.float32)
    tile = {"C": channels, "P": positions, "CHUNK": chunk_rows, "BLOCK_C": CHANNELS, "BLOCK_P": ROWS}
    shifted = {"SHIFTED": shift is not None}
    _sums[(batch, chunks, blocks)](x, shift, partial, **tile, **shifted)
    factor, addend, sums = x.new_empty(3, batch, channels, dtype=torch.float32)
    mean, inverse = x.new_empty(2, batch, groups, dtype=torch.float32)
    group = _group_sizes(channels, groups, positions, chunks)
    _coefficients[(batch, groups)](
        partial, weight, bias, shift, factor, addend, sums, mean, inverse, epsilon, **group, **shifted
    )
    y = torch.empty_like(x, memory_format=torch.channels_last)
    _apply[(batch, chunks, blocks)](x, factor, addend, y, SILU=silu, **tile)
    return y, (factor, addend, sums, mean, inverse)


def normalise_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    shift: Tensor | None,
    coefficients: list[Tensor],
    groups: int,
    silu: bool,
    learns: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, of weight and bias where they learn, and of the shift."""
    factor, addend, sums, mean, inverse = coefficients
    batch, channels, positions = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    chunk_rows, chunks, blocks = _grid(batch, positions, channels)
    partial = x.new_empty(2, batch, chunks, channels, dtype=torch.float32)
    tile = {"C": channels, "P": positions, "CHUNK": chunk_rows, "BLOCK_C": CHANNELS, "BLOCK_P": ROWS, "SILU": silu}
    _sums_backward[(batch, chunks, blocks)](dy, x, factor, addend, partial, **tile)
    slope, offset = x.new_empty(2, batch, channels, dtype=torch.float32)
    d_weight, d_bias = torch.empty_like(weight), torch.empty_like(weight)
    d_shift = slope if shift is None else torch.empty_like(shift)
    group = _group_sizes(channels, groups, positions, chunks)
    _coefficients_backward[(1 if learns else batch, groups)](  # sums over all pictures are one program's
        partial, weight, shift, factor, sums, mean, inverse, slope, offset, d_weight, d_bias, d_shift, batch,
        SHIFTED=shift is not None, LEARNS=learns, **group,
    )  # fmt: skip
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    _apply_backward[(batch, chunks, blocks)](dy, x, factor, addend, slope, offset, dx, **tile)
    shifted = None if shift is None else d_shift
    return (dx, d_weight, d_bias, shifted) if learns else (dx, None, None, shifted)


def _grid(batch: int, positions: int, channels: int) -> tuple[int, int, int]:
    """Rows of a chunk, chunks, and blocks of channels: enough programs to fill a GPU, each with whole tiles."""
    blocks = triton.cdiv(channels, CHANNELS)
    wanted = max(1, PROGRAMS // (batch * blocks))
    rows = triton.cdiv(triton.cdiv(positions, wanted), ROWS) * ROWS
    return rows, triton.cdiv(positions, rows), blocks


def _group_sizes(channels: int, groups: int, positions: int, chunks: int) -> dict[str, int]:
    """What the kernels that see a whole group are told of it."""
    width = channels // groups
    blocks = {"BLOCK_D": triton.next_power_of_2(width), "BLOCK_N": triton.next_power_of_2(chunks)}
    return {"C": channels, "G": groups, "P": positions, "D": width, "CHUNKS": chunks} | blocks


@triton.jit
def _sums(x, shift, partial, C, P, CHUNK, SHIFTED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    b, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    own = c < C
    first = tl.zeros([BLOCK_C], tl.float32)
    second = tl.zeros([BLOCK_C], tl.float32)
    base = x + b.to(tl.int64) * P * C
    add = tl.zeros([BLOCK_C], tl.float32)
    if SHIFTED:
        add = tl.load(shift + b * C + c, mask=own, other=0.0).to(tl.float32)
    for start in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, P), BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & own[None, :]
        tile = tl.load(base + p[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
        tile = tl.where(inside, tile + add[None, :], 0.0)
        first += tl.sum(tile, 0)
        second += tl.sum(tile * tile, 0)
    place = (b * chunks + chunk) * C + c
    tl.store(partial + place, first, mask=own)
    tl.store(partial + tl.num_programs(0) * chunks * C + place, second, mask=own)


@triton.jit
def _coefficients(
    partial, weight, bias, shift, factor, addend, sums, mean_out, inverse_out, epsilon,
    C, G, P, D, CHUNKS, SHIFTED: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, g = tl.program_id(0), tl.program_id(1)
    d, n = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    c, own = g * D + d, d < D
    inside = (n < CHUNKS)[:, None] & own[None, :]
    place = (b * CHUNKS + n)[:, None] * C + c[None, :]
    first = tl.sum(tl.load(partial + place, mask=inside, other=0.0), 0)
    second = tl.sum(tl.load(partial + tl.num_programs(0) * CHUNKS * C + place, mask=inside, other=0.0), 0)
    count = P * D
    mean = tl.sum(first, 0) / count
    variance = tl.maximum(tl.sum(second, 0) / count - mean * mean, 0.0)
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    w = tl.load(weight + c, mask=own, other=0.0).to(tl.float32)
    a = w * inverse
    s = tl.load(bias + c, mask=own, other=0.0).to(tl.float32) - mean * a
    if SHIFTED:
        s += tl.load(shift + b * C + c, mask=own, other=0.0).to(tl.float32) * a
    tl.store(factor + b * C + c, a, mask=own)
    tl.store(addend + b * C + c, s, mask=own)
    tl.store(sums + b * C + c, first, mask=own)
    tl.store(mean_out + b * G + g, mean)
    tl.store(inverse_out + b * G + g, inverse)


@triton.jit
def _apply(x, factor, addend, y, C, P, CHUNK, SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    b, chunk = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    own = c < C
    a = tl.load(factor + b * C + c, mask=own, other=0.0)
    s = tl.load(addend + b * C + c, mask=own, other=0.0)
    offset = b.to(tl.int64) * P * C
    for start in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, P), BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & own[None, :]
        place = offset + p[:, None] * C + c[None, :]
        z = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * a[None, :] + s[None, :]
        if SILU:
            z = z * tl.sigmoid(z)
        tl.store(y + place, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _d_activation(dy, z, SILU: tl.constexpr):
    """dy f'(z): SiLU's derivative is σ(z) (1 + z (1 - σ(z)))."""
    if SILU:
        share = tl.sigmoid(z)
        dy = dy * share * (1.0 + z * (1.0 - share))
    return dy


@triton.jit
def _sums_backward(
    dy, x, factor, addend, partial, C, P, CHUNK, SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr
):
    b, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    own = c < C
    a = tl.load(factor + b * C + c, mask=own, other=0.0)
    s = tl.load(addend + b * C + c, mask=own, other=0.0)
    offset = b.to(tl.int64) * P * C
    first = tl.zeros([BLOCK_C], tl.float32)
    second = tl.zeros([BLOCK_C], tl.float32)
    for start in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, P), BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & own[None, :]
        place = offset + p[:, None] * C + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        dz = _d_activation(dz, value * a[None, :] + s[None, :], SILU)
        first += tl.sum(dz, 0)
        second += tl.sum(dz * value, 0)
    place = (b * chunks + chunk) * C + c
    tl.store(partial + place, first, mask=own)
    tl.store(partial + tl.num_programs(0) * chunks * C + place, second, mask=own)


@triton.jit
def _coefficients_backward(
    partial, weight, shift, factor, sums, mean_in, inverse_in, slope, offset, d_weight, d_bias, d_shift, B,
    C, G, P, D, CHUNKS, SHIFTED: tl.constexpr, LEARNS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    g = tl.program_id(1)
    d, n = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    c, own = g * D + d, d < D
    w = tl.load(weight + c, mask=own, other=0.0).to(tl.float32)
    w_total = tl.zeros([BLOCK_D], tl.float32)
    b_total = tl.zeros([BLOCK_D], tl.float32)
    for b in range(tl.program_id(0), B, tl.num_programs(0)):
        inside = (n < CHUNKS)[:, None] & own[None, :]
        place = (b * CHUNKS + n)[:, None] * C + c[None, :]
        first = tl.sum(tl.load(partial + place, mask=inside, other=0.0), 0)
        second = tl.sum(tl.load(partial + B * CHUNKS * C + place, mask=inside, other=0.0), 0)
        added = tl.zeros([BLOCK_D], tl.float32)
        if SHIFTED:  # the sums are of x, what was normalised is x + shift
            added = tl.load(shift + b * C + c, mask=own, other=0.0).to(tl.float32)
            second += first * added
        mean, inverse = tl.load(mean_in + b * G + g), tl.load(inverse_in + b * G + g)
        dw = (second - mean * first) * inverse
        w_total += dw
        b_total += first
        p = -inverse * inverse * (tl.sum(w * dw, 0) / (P * D))
        q = -inverse * (tl.sum(w * first, 0) / (P * D)) - p * mean
        tl.store(offset + b * C + c, q + p * added, mask=own)
        tl.store(slope + b * C + c, tl.zeros([BLOCK_D], tl.float32) + p, mask=own)
        if SHIFTED:
            total = tl.load(factor + b * C + c, mask=own, other=0.0) * first
            total += p * tl.load(sums + b * C + c, mask=own, other=0.0) + q * P
            tl.store(d_shift + b * C + c, total.to(d_shift.dtype.element_ty), mask=own)
    if LEARNS:
        tl.store(d_weight + c, w_total.to(d_weight.dtype.element_ty), mask=own)
        tl.store(d_bias + c, b_total.to(d_bias.dtype.element_ty), mask=own)


@triton.jit
def _apply_backward(
    dy, x, factor, addend, slope, offset_in, dx, C, P, CHUNK,
    SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    b, chunk = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    own = c < C
    a = tl.load(factor + b * C + c, mask=own, other=0.0)
    s = tl.load(addend + b * C + c, mask=own, other=0.0)
    m = tl.load(slope + b * C + c, mask=own, other=0.0)
    q = tl.load(offset_in + b * C + c, mask=own, other=0.0)
    offset = b.to(tl.int64) * P * C
    for start in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, P), BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & own[None, :]
        place = offset + p[:, None] * C + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        dz = _d_activation(dz, value * a[None, :] + s[None, :], SILU)
        tl.store(dx + place, (a[None, :] * dz + m[None, :] * value + q[None, :]).to(dx.dtype.element_ty), mask=inside)
