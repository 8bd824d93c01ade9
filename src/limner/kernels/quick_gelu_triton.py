"""The kernels of CLIP's activation, over numbers (N,) in fp32."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.launching import kernel

BLOCK = 1024


def activate(x: Tensor) -> Tensor:
    """x σ(1.702 x) of a contiguous x."""
    y = torch.empty_like(x)
    _quick_gelu[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK=BLOCK)
    return y


def activate_backward(dy: Tensor, x: Tensor) -> Tensor:
    """The gradient of x."""
    dx = torch.empty_like(x)
    _quick_gelu_backward[(triton.cdiv(x.numel(), BLOCK),)](dy, x, dx, x.numel(), BLOCK=BLOCK)
    return dx


@kernel()
def _quick_gelu(x, y, count, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = i < count
    value = tl.load(x + i, mask=valid, other=0.0).to(tl.float32)
    tl.store(y + i, (value * tl.sigmoid(1.702 * value)).to(y.dtype.element_ty), mask=valid)


@kernel()
def _quick_gelu_backward(dy, x, dx, count, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = i < count
    value = tl.load(x + i, mask=valid, other=0.0).to(tl.float32)
    d = tl.load(dy + i, mask=valid, other=0.0).to(tl.float32)
    share = tl.sigmoid(1.702 * value)
    tl.store(dx + i, (d * share * (1.0 + 1.702 * value * (1.0 - share))).to(dx.dtype.element_ty), mask=valid)
