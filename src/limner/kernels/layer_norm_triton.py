"""Layer normalisation's kernels: a program holds a row at a time; weight and bias learn from sums of two stages."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.linear_triton import sums_of_parts

PARTS = 264  # programs whose sums of the weight's gradient are added afterwards


def add_and_normalise(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, later: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum and normalised sum (…, C), and each row's mean and 1/deviation (N,). `later` (C,) goes to the sum alone."""
    channels = x.shape[-1]
    rows = x.numel() // channels
    total, y = torch.empty_like(x), torch.empty_like(x)
    mean, inverse = x.new_empty(2, rows, dtype=torch.float32)
    block = triton.next_power_of_2(channels)
    _add_and_normalise[(rows,)](
        x, residual, weight, bias, later, total, y, mean, inverse, epsilon, channels,
        LATER=later is not None, BLOCK=block,
    )  # fmt: skip
    return total, y, mean, inverse


def backward(
    d_total: Tensor, dy: Tensor, total: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, learns: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradient of both summands, and those of weight and bias where they learn."""
    channels = total.shape[-1]
    rows = total.numel() // channels
    programs = min(rows, PARTS) if learns else rows
    dx = torch.empty_like(total)
    sums = total.new_empty(2, programs if learns else 1, channels, dtype=torch.float32)
    block = triton.next_power_of_2(channels)
    _backward[(programs,)](
        d_total, dy, total, weight, mean, inverse, dx, sums, rows, channels, LEARNS=learns, BLOCK=block
    )
    if not learns:
        return dx, None, None
    d_weight, d_bias = sums_of_parts(sums, weight.dtype)
    return dx, d_weight, d_bias


@triton.jit
def _add_and_normalise(
    x, residual, weight, bias, later, total_out, y, mean_out, inverse_out, epsilon, C,
    LATER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    own = c < C
    total = tl.load(x + row * C + c, mask=own, other=0.0).to(tl.float32)
    total += tl.load(residual + row * C + c, mask=own, other=0.0).to(tl.float32)
    rounded = total.to(total_out.dtype.element_ty)
    if LATER:
        shown = total + tl.load(later + c, mask=own, other=0.0).to(tl.float32)
        tl.store(total_out + row * C + c, shown.to(total_out.dtype.element_ty), mask=own)
    else:
        tl.store(total_out + row * C + c, rounded, mask=own)
    total = rounded.to(tl.float32)  # what the backward pass will see
    mean = tl.sum(total, 0) / C
    centred = tl.where(own, total - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / C + epsilon)
    w = tl.load(weight + c, mask=own, other=0.0).to(tl.float32)
    b = tl.load(bias + c, mask=own, other=0.0).to(tl.float32)
    tl.store(y + row * C + c, (centred * inverse * w + b).to(y.dtype.element_ty), mask=own)
    tl.store(mean_out + row, mean)
    tl.store(inverse_out + row, inverse)


@triton.jit
def _backward(
    d_total, dy, total, weight, mean_in, inverse_in, dx, sums, N, C, LEARNS: tl.constexpr, BLOCK: tl.constexpr
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, BLOCK)
    own = c < C
    w = tl.load(weight + c, mask=own, other=0.0).to(tl.float32)
    d_weight = tl.zeros([BLOCK], tl.float32)
    d_bias = tl.zeros([BLOCK], tl.float32)
    for number in range(program, N, programs):
        row = tl.cast(number, tl.int64)
        mean, inverse = tl.load(mean_in + row), tl.load(inverse_in + row)
        normalised = tl.load(total + row * C + c, mask=own, other=0.0).to(tl.float32)
        normalised = tl.where(own, (normalised - mean) * inverse, 0.0)
        d = tl.load(dy + row * C + c, mask=own, other=0.0).to(tl.float32)
        d_normalised = d * w
        first = tl.sum(d_normalised, 0) / C
        second = tl.sum(d_normalised * normalised, 0) / C
        found = inverse * (d_normalised - first - normalised * second)
        found += tl.load(d_total + row * C + c, mask=own, other=0.0).to(tl.float32)
        tl.store(dx + row * C + c, found.to(dx.dtype.element_ty), mask=own)
        if LEARNS:
            d_weight += d * normalised
            d_bias += d
    if LEARNS:
        tl.store(sums + program * C + c, d_weight, mask=own)
        tl.store(sums + (programs + program) * C + c, d_bias, mask=own)
