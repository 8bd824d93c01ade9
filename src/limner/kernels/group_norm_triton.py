"""Group normalisation's kernels. Pictures are read as (B, P, C), P = H·W positions, channels side by side.

Programs that read pictures are numbered (block of channels, chunk of positions, picture): those that run at the same
time read neighbouring memory. Each adds up tiles number by number and their rows only once, at its end.

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

from limner.kernels.launching import kernel

CHANNELS, ROWS = 64, 32  # a tile
GROUP, CHUNKS = 32, 64  # channels at least, and chunks, of a tile of the kernels that process a whole group
PROGRAMS = 2048  # about sixteen for each multiprocessor of a large GPU: enough loads in flight to keep its memory busy


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, epsilon: float, silu: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """y (B, C, H, W), and what the backward pass needs: factors, addends, sums (B, C), means and 1/deviation (B, G)."""
    batch, channels, positions = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    chunk_rows, chunks, blocks = _grid(batch, positions, channels)
    partial = x.new_empty(2, batch, chunks, channels, dtype=torch.float32)
    tile = {"C": channels, "P": positions, "CHUNK": chunk_rows, "BLOCK_C": CHANNELS, "BLOCK_P": ROWS}
    shifted = {"SHIFTED": shift is not None}
    _sums[(blocks, chunks, batch)](x, shift, partial, **tile, **shifted)
    factor, addend, sums = x.new_empty(3, batch, channels, dtype=torch.float32)
    mean, inverse = x.new_empty(2, batch, groups, dtype=torch.float32)
    group = _group_sizes(channels, groups, positions, chunks)
    _coefficients[(batch, groups)](
        partial, weight, bias, shift, factor, addend, sums, mean, inverse, epsilon, **group, **shifted
    )
    y = torch.empty_like(x, memory_format=torch.channels_last)
    _apply[(blocks, chunks, batch)](x, factor, addend, y, SILU=silu, **tile)
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
    """Gradients of x, of weight and bias where they are trained, and of the shift."""
    factor, addend, sums, mean, inverse = coefficients
    batch, channels, positions = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    chunk_rows, chunks, blocks = _grid(batch, positions, channels)
    partial = x.new_empty(2, batch, chunks, channels, dtype=torch.float32)
    tile = {"C": channels, "P": positions, "CHUNK": chunk_rows, "BLOCK_C": CHANNELS, "BLOCK_P": ROWS, "SILU": silu}
    _sums_backward[(blocks, chunks, batch)](dy, x, factor, addend, partial, **tile)
    slope, offset = x.new_empty(2, batch, channels, dtype=torch.float32)
    d_weight, d_bias = torch.empty_like(weight), torch.empty_like(weight)
    d_shift = slope if shift is None else torch.empty_like(shift)
    group = _group_sizes(channels, groups, positions, chunks)
    _coefficients_backward[(1 if learns else batch, groups)](  # one program sums over all pictures
        partial, weight, shift, factor, sums, mean, inverse, slope, offset, d_weight, d_bias, d_shift, batch,
        SHIFTED=shift is not None, LEARNS=learns, **group,
    )  # fmt: skip
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    _apply_backward[(blocks, chunks, batch)](dy, x, factor, addend, slope, offset, dx, **tile)
    shifted = None if shift is None else d_shift
    return (dx, d_weight, d_bias, shifted) if learns else (dx, None, None, shifted)


def _grid(batch: int, positions: int, channels: int) -> tuple[int, int, int]:
    """Rows of a chunk, chunks, and blocks of channels: enough programs to fill a GPU, each with whole tiles."""
    blocks = triton.cdiv(channels, CHANNELS)
    wanted = max(1, PROGRAMS // (batch * blocks))
    rows = triton.cdiv(triton.cdiv(positions, wanted), ROWS) * ROWS
    return rows, triton.cdiv(positions, rows), blocks


def _group_sizes(channels: int, groups: int, positions: int, chunks: int) -> dict[str, int]:
    """Sizes for the kernels that process a whole group."""
    width = channels // groups
    blocks = {"BLOCK_D": max(GROUP, triton.next_power_of_2(width)), "BLOCK_N": CHUNKS}
    return {"C": channels, "G": groups, "P": positions, "D": width, "CHUNKS": chunks} | blocks


@triton.jit
def _block(C, BLOCK_C: tl.constexpr):
    """The program's channels, and which are in range."""
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    return c, c < C


@triton.jit
def _of_picture(values, c, valid, C):
    """Each channel's number of the program's picture, of values (B, C)."""
    return tl.load(values + tl.program_id(2) * C + c, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def _tile(start, c, valid, C, P, BLOCK_P: tl.constexpr):
    """Offsets of the numbers of BLOCK_P positions, and which are in range."""
    p = start + tl.arange(0, BLOCK_P)
    offset_in_tensor = tl.program_id(2).to(tl.int64) * P * C + p[:, None] * C + c[None, :]
    return offset_in_tensor, (p < P)[:, None] & valid[None, :]


@triton.jit
def _store_sums(partial, first, second, c, valid, C):
    """Sums of a program's tiles to partial (2, B, chunks, C)."""
    chunks = tl.num_programs(1)
    offset_in_tensor = (tl.program_id(2) * chunks + tl.program_id(1)) * C + c
    tl.store(partial + offset_in_tensor, tl.sum(first, 0), mask=valid)
    tl.store(partial + tl.num_programs(2) * chunks * C + offset_in_tensor, tl.sum(second, 0), mask=valid)


@kernel(unspecialised=["P", "CHUNK"])
def _sums(x, shift, partial, C, P, CHUNK, SHIFTED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    c, valid = _block(C, BLOCK_C)
    added = tl.zeros([BLOCK_C], tl.float32)
    if SHIFTED:
        added = _of_picture(shift, c, valid, C)
    first = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    second = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    begin = tl.program_id(1) * CHUNK
    for start in range(begin, min(begin + CHUNK, P), BLOCK_P):
        offset_in_tensor, inside = _tile(start, c, valid, C, P, BLOCK_P)
        tile = tl.load(x + offset_in_tensor, mask=inside, other=0.0).to(tl.float32)
        if SHIFTED:
            tile = tl.where(inside, tile + added[None, :], 0.0)
        first += tile
        second += tile * tile
    _store_sums(partial, first, second, c, valid, C)


@triton.jit
def _sums_of_chunks(partial, b, B, c, valid, C, CHUNKS, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    """Both sums (BLOCK_D,) over all chunks of picture `b`, of partial (2, B, chunks, C)."""
    first = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    second = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for start in range(0, CHUNKS, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        inside = (n < CHUNKS)[:, None] & valid[None, :]
        offset_in_tensor = (b * CHUNKS + n)[:, None] * C + c[None, :]
        first += tl.load(partial + offset_in_tensor, mask=inside, other=0.0)
        second += tl.load(partial + B * CHUNKS * C + offset_in_tensor, mask=inside, other=0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@kernel(unspecialised=["G", "P", "D", "CHUNKS"])
def _coefficients(
    partial, weight, bias, shift, factor, addend, sums, mean_out, inverse_out, epsilon,
    C, G, P, D, CHUNKS, SHIFTED: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b, g = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, BLOCK_D)
    c, valid = g * D + d, d < D
    first, second = _sums_of_chunks(partial, b, tl.num_programs(0), c, valid, C, CHUNKS, BLOCK_D, BLOCK_N)
    count = P * D
    mean = tl.sum(first, 0) / count
    variance = tl.maximum(tl.sum(second, 0) / count - mean * mean, 0.0)
    inverse = 1.0 / tl.sqrt(variance + epsilon)
    w = tl.load(weight + c, mask=valid, other=0.0).to(tl.float32)
    a = w * inverse
    s = tl.load(bias + c, mask=valid, other=0.0).to(tl.float32) - mean * a
    if SHIFTED:
        s += tl.load(shift + b * C + c, mask=valid, other=0.0).to(tl.float32) * a
    tl.store(factor + b * C + c, a, mask=valid)
    tl.store(addend + b * C + c, s, mask=valid)
    tl.store(sums + b * C + c, first, mask=valid)
    tl.store(mean_out + b * G + g, mean)
    tl.store(inverse_out + b * G + g, inverse)


@kernel(unspecialised=["P", "CHUNK"])
def _apply(x, factor, addend, y, C, P, CHUNK, SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    c, valid = _block(C, BLOCK_C)
    a, s = _of_picture(factor, c, valid, C), _of_picture(addend, c, valid, C)
    begin = tl.program_id(1) * CHUNK
    for start in range(begin, min(begin + CHUNK, P), BLOCK_P):
        offset_in_tensor, inside = _tile(start, c, valid, C, P, BLOCK_P)
        z = tl.load(x + offset_in_tensor, mask=inside, other=0.0).to(tl.float32) * a[None, :] + s[None, :]
        if SILU:
            z = z * tl.sigmoid(z)
        tl.store(y + offset_in_tensor, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def d_activation(dy, z, SILU: tl.constexpr):
    """dy f'(z): SiLU's derivative is σ(z) (1 + z (1 - σ(z)))."""
    if SILU:
        share = tl.sigmoid(z)
        dy = dy * share * (1.0 + z * (1.0 - share))
    return dy


@kernel(unspecialised=["P", "CHUNK"])
def _sums_backward(
    dy, x, factor, addend, partial, C, P, CHUNK, SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr
):
    c, valid = _block(C, BLOCK_C)
    a, s = _of_picture(factor, c, valid, C), _of_picture(addend, c, valid, C)
    first = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    second = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    begin = tl.program_id(1) * CHUNK
    for start in range(begin, min(begin + CHUNK, P), BLOCK_P):
        offset_in_tensor, inside = _tile(start, c, valid, C, P, BLOCK_P)
        value = tl.load(x + offset_in_tensor, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + offset_in_tensor, mask=inside, other=0.0).to(tl.float32)
        dz = d_activation(dz, value * a[None, :] + s[None, :], SILU)
        first += dz
        second += dz * value
    _store_sums(partial, first, second, c, valid, C)


@kernel(unspecialised=["B", "G", "P", "D", "CHUNKS"])
def _coefficients_backward(
    partial, weight, shift, factor, sums, mean_in, inverse_in, slope, offset, d_weight, d_bias, d_shift, B,
    C, G, P, D, CHUNKS, SHIFTED: tl.constexpr, LEARNS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    g = tl.program_id(1)
    d = tl.arange(0, BLOCK_D)
    c, valid = g * D + d, d < D
    w = tl.load(weight + c, mask=valid, other=0.0).to(tl.float32)
    w_total = tl.zeros([BLOCK_D], tl.float32)
    b_total = tl.zeros([BLOCK_D], tl.float32)
    for b in range(tl.program_id(0), B, tl.num_programs(0)):
        first, second = _sums_of_chunks(partial, b, B, c, valid, C, CHUNKS, BLOCK_D, BLOCK_N)
        added = tl.zeros([BLOCK_D], tl.float32)
        if SHIFTED:  # the sums are of x, but x + shift was normalised
            added = tl.load(shift + b * C + c, mask=valid, other=0.0).to(tl.float32)
            second += first * added
        mean, inverse = tl.load(mean_in + b * G + g), tl.load(inverse_in + b * G + g)
        dw = (second - mean * first) * inverse
        w_total += dw
        b_total += first
        p = -inverse * inverse * (tl.sum(w * dw, 0) / (P * D))
        q = -inverse * (tl.sum(w * first, 0) / (P * D)) - p * mean
        tl.store(offset + b * C + c, q + p * added, mask=valid)
        tl.store(slope + b * C + c, tl.zeros([BLOCK_D], tl.float32) + p, mask=valid)
        if SHIFTED:
            total = tl.load(factor + b * C + c, mask=valid, other=0.0) * first
            total += p * tl.load(sums + b * C + c, mask=valid, other=0.0) + q * P
            tl.store(d_shift + b * C + c, total.to(d_shift.dtype.element_ty), mask=valid)
    if LEARNS:
        tl.store(d_weight + c, w_total.to(d_weight.dtype.element_ty), mask=valid)
        tl.store(d_bias + c, b_total.to(d_bias.dtype.element_ty), mask=valid)


@kernel(unspecialised=["P", "CHUNK"])
def _apply_backward(
    dy, x, factor, addend, slope, offset, dx, C, P, CHUNK,
    SILU: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    c, valid = _block(C, BLOCK_C)
    a, s = _of_picture(factor, c, valid, C), _of_picture(addend, c, valid, C)
    m, q = _of_picture(slope, c, valid, C), _of_picture(offset, c, valid, C)
    begin = tl.program_id(1) * CHUNK
    for start in range(begin, min(begin + CHUNK, P), BLOCK_P):
        offset_in_tensor, inside = _tile(start, c, valid, C, P, BLOCK_P)
        value = tl.load(x + offset_in_tensor, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + offset_in_tensor, mask=inside, other=0.0).to(tl.float32)
        dz = d_activation(dz, value * a[None, :] + s[None, :], SILU)
        tl.store(
            dx + offset_in_tensor,
            (a[None, :] * dz + m[None, :] * value + q[None, :]).to(dx.dtype.element_ty),
            mask=inside,
        )
