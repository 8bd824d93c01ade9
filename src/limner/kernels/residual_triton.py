"""The residual sum's kernel. Pictures are rows (B·H·W, C), channels side by side."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.launching import kernel

CHANNELS, ROWS = 64, 64  # a tile: four loads of 16 bytes in flight in each thread


def sum_with_bias(x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
    """x + bias + residual (B, C, H, W), all in channels-last order; in the wider precision of x and residual."""
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    y = torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)
    channels = x.shape[1]
    rows = x.numel() // channels
    _sum_with_bias[(triton.cdiv(channels, CHANNELS) * triton.cdiv(rows, ROWS),)](
        x, bias, residual, y, rows, channels, RESIDUAL=residual is not None, BLOCK_C=CHANNELS, BLOCK_R=ROWS
    )
    return y


@kernel(unspecialised=["R"])
def _sum_with_bias(x, bias, residual, y, R, C, RESIDUAL: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_R: tl.constexpr):
    blocks = tl.cdiv(C, BLOCK_C)  # in one dimension: a grid's second ends at 65,535, too few for large pictures
    c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    r = tl.program_id(0) // blocks * BLOCK_R + tl.arange(0, BLOCK_R)
    valid = c < C
    inside = (r < R)[:, None] & valid[None, :]
    offset = r.to(tl.int64)[:, None] * C + c[None, :]
    total = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(bias + c, mask=valid, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        total += tl.load(residual + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + offset, total.to(y.dtype.element_ty), mask=inside)
