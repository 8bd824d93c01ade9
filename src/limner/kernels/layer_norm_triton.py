"""Layer normalisation's kernels: a program holds a few rows at a time; weights' gradients are summed in two stages."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.launching import kernel
from limner.kernels.linear_triton import sums_of_parts

TILE = 2048  # numbers that a program holds at a time: several short rows are processed at once
PARTS = 264  # programs that each sum a part of the weight's gradient; the parts are added afterwards


def add_and_normalise(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, later: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum and normalised sum (…, C), and each row's mean and 1/deviation (N,). `later` (C,) goes to the sum alone."""
    total = torch.empty_like(x)
    return total, *_normalised(x, residual, weight, bias, epsilon, later, total)


def normalise(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised (…, C), and each row's mean and 1/deviation (N,)."""
    return _normalised(x, None, weight, bias, epsilon, None, None)


def _normalised(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, epsilon: float, later, total: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    channels = x.shape[-1]
    rows = x.numel() // channels
    y = torch.empty_like(x)
    mean, inverse = x.new_empty(2, rows, dtype=torch.float32)
    tile = _tile_of(channels)
    _add_and_normalise[(triton.cdiv(rows, tile["ROWS"]),)](
        x, residual, weight, bias, later, total, y, mean, inverse, epsilon, rows, channels,
        ADDS=residual is not None, LATER=later is not None, **tile,
    )  # fmt: skip
    return y, mean, inverse


def backward(
    d_total: Tensor | None, dy: Tensor, total: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, learns: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradient of the normalised input (of both summands), and those of weight and bias where they are trained.

    `d_total` is None where there was no sum.
    """
    channels = total.shape[-1]
    rows = total.numel() // channels
    tile = _tile_of(channels)
    programs = triton.cdiv(rows, tile["ROWS"])
    programs = min(programs, PARTS) if learns else programs
    dx = torch.empty_like(total)
    sums = total.new_empty(2, programs if learns else 1, channels, dtype=torch.float32)
    _backward[(programs,)](
        d_total, dy, total, weight, mean, inverse, dx, sums, rows, channels,
        ADDS=d_total is not None, LEARNS=learns, **tile,
    )  # fmt: skip
    if not learns:
        return dx, None, None
    d_weight, d_bias = sums_of_parts(sums, weight.dtype)
    return dx, d_weight, d_bias


def _tile_of(channels: int) -> dict[str, int]:
    block = triton.next_power_of_2(channels)
    return {"ROWS": max(1, TILE // block), "BLOCK": block}


@triton.jit
def _rows(first, N, C, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Indices of the rows from `first` and which are in range; offsets of their numbers and which are in range."""
    row, c = first + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    return row, row < N, row.to(tl.int64)[:, None] * C + c[None, :], (row < N)[:, None] & (c < C)[None, :]


@triton.jit
def _of_channels(values, C, BLOCK: tl.constexpr):
    c = tl.arange(0, BLOCK)
    return tl.load(values + c, mask=c < C, other=0.0).to(tl.float32)[None, :]


@kernel(unspecialised=["N"])
def _add_and_normalise(
    x, residual, weight, bias, later, total_out, y, mean_out, inverse_out, epsilon, N, C,
    ADDS: tl.constexpr, LATER: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, row_valid, offset, inside = _rows(tl.program_id(0) * ROWS, N, C, ROWS, BLOCK)
    total = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        total += tl.load(residual + offset, mask=inside, other=0.0).to(tl.float32)
        rounded = total.to(total_out.dtype.element_ty)
        if LATER:
            shown = (total + _of_channels(later, C, BLOCK)).to(total_out.dtype.element_ty)
            tl.store(total_out + offset, shown, mask=inside)
        else:
            tl.store(total_out + offset, rounded, mask=inside)
        total = rounded.to(tl.float32)  # as the backward pass will read it
    mean = tl.sum(total, 1) / C
    centred = tl.where(inside, total - mean[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / C + epsilon)
    output = centred * inverse[:, None] * _of_channels(weight, C, BLOCK) + _of_channels(bias, C, BLOCK)
    tl.store(y + offset, output.to(y.dtype.element_ty), mask=inside)
    tl.store(mean_out + row, mean, mask=row_valid)
    tl.store(inverse_out + row, inverse, mask=row_valid)


@kernel(unspecialised=["N"])
def _backward(
    d_total, dy, total, weight, mean_in, inverse_in, dx, sums, N, C,
    ADDS: tl.constexpr, LEARNS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, BLOCK)
    w = _of_channels(weight, C, BLOCK)
    d_weight = tl.zeros([ROWS, BLOCK], tl.float32)
    d_bias = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(program * ROWS, N, programs * ROWS):
        row, row_valid, offset, inside = _rows(first, N, C, ROWS, BLOCK)
        mean = tl.load(mean_in + row, mask=row_valid, other=0.0)[:, None]
        inverse = tl.load(inverse_in + row, mask=row_valid, other=0.0)[:, None]
        normalised = tl.load(total + offset, mask=inside, other=0.0).to(tl.float32)
        normalised = tl.where(inside, (normalised - mean) * inverse, 0.0)
        d = tl.load(dy + offset, mask=inside, other=0.0).to(tl.float32)
        d_normalised = d * w
        along = (tl.sum(d_normalised, 1) / C)[:, None]
        across = (tl.sum(d_normalised * normalised, 1) / C)[:, None]
        output = inverse * (d_normalised - along - normalised * across)
        if ADDS:
            output += tl.load(d_total + offset, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx + offset, output.to(dx.dtype.element_ty), mask=inside)
        if LEARNS:
            d_weight += d * normalised
            d_bias += d
    if LEARNS:
        tl.store(sums + program * C + c, tl.sum(d_weight, 0), mask=c < C)
        tl.store(sums + (programs + program) * C + c, tl.sum(d_bias, 0), mask=c < C)
