"""Group normalisation of small pictures: a program holds a whole group of a picture, and one kernel does each pass.

One launch replaces three that wait for one another, and every number is read once. Layout and symbols are
those of `group_norm_triton`; with n the normalised x + shift: dx = (w dz - mean(w dz) - n mean(w dz n)) / deviation.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.group_norm_triton import d_activation
from limner.kernels.launching import kernel
from limner.kernels.linear_triton import sums_of_parts

LARGEST_TILE = (
    16_384  # numbers of a group: more do not fit in a program's registers, where the backward pass holds them twice
)
LARGEST = 1 << 22  # numbers in all: with more, smaller programs make better use of a GPU's memory
NUMBERS_OF_A_WARP = 1024


def fits(x: Tensor, groups: int) -> bool:
    """Whether these kernels are faster for x (B, C, H, W) than `group_norm_triton`'s."""
    tile = _block_of_positions(x) * triton.next_power_of_2(x.shape[1] // groups)
    return tile <= LARGEST_TILE and x.shape[0] * groups * tile <= LARGEST


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, epsilon: float, silu: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """y (B, C, H, W), and what the backward pass needs: factors, addends (B, C), means and 1/deviation (B, G)."""
    batch, channels = x.shape[:2]
    y = torch.empty_like(x, memory_format=torch.channels_last)
    factor, addend = x.new_empty(2, batch, channels, dtype=torch.float32)
    mean, inverse = x.new_empty(2, batch, groups, dtype=torch.float32)
    _group_norm_whole[(groups, batch)](
        x, weight, bias, shift, y, factor, addend, mean, inverse, epsilon,
        SHIFTED=shift is not None, SILU=silu, **_tile_of(x, groups),
    )  # fmt: skip
    return y, (factor, addend, mean, inverse)


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
    batch, channels = x.shape[:2]
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    d_shift = None if shift is None else torch.empty_like(shift)
    partial = x.new_empty(2, batch if learns else 0, channels, dtype=torch.float32)
    _group_norm_whole_backward[(groups, batch)](
        dy, x, weight, shift, *coefficients, dx, d_shift, partial,
        SHIFTED=shift is not None, SILU=silu, LEARNS=learns, **_tile_of(x, groups),
    )  # fmt: skip
    if not learns:
        return dx, None, None, d_shift
    d_weight, d_bias = sums_of_parts(partial, weight.dtype)
    return dx, d_weight, d_bias, d_shift


def _block_of_positions(x: Tensor) -> int:
    return triton.next_power_of_2(x.shape[2] * x.shape[3])


def _tile_of(x: Tensor, groups: int) -> dict[str, int]:
    """Sizes for the kernels."""
    channels, width = x.shape[1], x.shape[1] // groups
    blocks = {"BLOCK_D": triton.next_power_of_2(width), "BLOCK_P": _block_of_positions(x)}
    warps = min(16, max(4, blocks["BLOCK_D"] * blocks["BLOCK_P"] // NUMBERS_OF_A_WARP))
    return {"C": channels, "P": x.shape[2] * x.shape[3], "D": width, "num_warps": warps} | blocks


@triton.jit
def _group(C, P, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr):
    """The program's channels and which are in range; the offsets of its numbers and which are in range."""
    d, p = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_P)
    c = tl.program_id(0) * D + d
    offset = tl.program_id(1).to(tl.int64) * P * C + p[:, None] * C + c[None, :]
    return c, d < D, offset, (p < P)[:, None] & (d < D)[None, :]


@kernel(unspecialised=["P"])
def _group_norm_whole(
    x, weight, bias, shift, y, factor, addend, mean_out, inverse_out, epsilon, C, P, D: tl.constexpr,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    c, valid, offset, inside = _group(C, P, D, BLOCK_D, BLOCK_P)
    row = tl.program_id(1) * C
    value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    added = tl.zeros([BLOCK_D], tl.float32)
    if SHIFTED:
        added = tl.load(shift + row + c, mask=valid, other=0.0).to(tl.float32)
        value = tl.where(inside, value + added[None, :], 0.0)
    mean = tl.sum(tl.sum(value, 0), 0) / (P * D)
    value = tl.where(inside, value - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(tl.sum(value * value, 0), 0) / (P * D) + epsilon)
    a = tl.load(weight + c, mask=valid, other=0.0).to(tl.float32) * inverse
    s = tl.load(bias + c, mask=valid, other=0.0).to(tl.float32)
    z = value * a[None, :] + s[None, :]
    if SILU:
        z = z * tl.sigmoid(z)
    tl.store(y + offset, z.to(y.dtype.element_ty), mask=inside)
    tl.store(factor + row + c, a, mask=valid)
    tl.store(addend + row + c, s + (added - mean) * a, mask=valid)
    group = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(mean_out + group, mean)
    tl.store(inverse_out + group, inverse)


@kernel(unspecialised=["P"])
def _group_norm_whole_backward(
    dy, x, weight, shift, factor, addend, mean_in, inverse_in, dx, d_shift, partial, C, P, D: tl.constexpr,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, LEARNS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    c, valid, offset, inside = _group(C, P, D, BLOCK_D, BLOCK_P)
    row = tl.program_id(1) * C
    group = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    mean, inverse = tl.load(mean_in + group), tl.load(inverse_in + group)
    w = tl.load(weight + c, mask=valid, other=0.0).to(tl.float32)
    value = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    dz = tl.load(dy + offset, mask=inside, other=0.0).to(tl.float32)
    a = tl.load(factor + row + c, mask=valid, other=0.0)
    s = tl.load(addend + row + c, mask=valid, other=0.0)
    dz = d_activation(dz, value * a[None, :] + s[None, :], SILU)
    added = tl.zeros([BLOCK_D], tl.float32) - mean
    if SHIFTED:
        added += tl.load(shift + row + c, mask=valid, other=0.0).to(tl.float32)
    value = tl.where(inside, (value + added[None, :]) * inverse, 0.0)
    first, second = tl.sum(dz, 0), tl.sum(dz * value, 0)
    along, across = tl.sum(w * first, 0) / (P * D), tl.sum(w * second, 0) / (P * D)
    d_value = tl.where(inside, (w[None, :] * dz - along - value * across) * inverse, 0.0)
    tl.store(dx + offset, d_value.to(dx.dtype.element_ty), mask=inside)
    if SHIFTED:
        tl.store(d_shift + row + c, tl.sum(d_value, 0).to(d_shift.dtype.element_ty), mask=valid)
    if LEARNS:
        tl.store(partial + row + c, second, mask=valid)
        tl.store(partial + tl.num_programs(1) * C + row + c, first, mask=valid)
