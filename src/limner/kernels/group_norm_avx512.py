"""`group_norm` to bf16 on a processor: `group_norm_avx512.c` through ctypes, on the threads that torch uses."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from limner.kernels.compiled import kernel, run

LANES = 16  # channels that are computed at once
CHANNELS_LAST = torch.channels_last
SIZES = ("batch", "positions", "channels", "groups", "next")
TENSORS = ("x", "weight", "bias", "shift", "statistics", "y", "dy", "dx", "d_weight", "d_bias", "d_shift")


class _Work(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in SIZES),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("silu", "half", "failed")),
        *((name, ctypes.c_void_p) for name in TENSORS),
    )


def fits(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether `normalise` can be called: x (B, C, H, W) is channels-last, C and dtypes fit, and there is a compiler."""
    shape_fits = x.shape[1] % LANES == 0 == x.shape[1] % groups and x.is_contiguous(memory_format=CHANNELS_LAST)
    dtypes_fit = x.dtype in (torch.float32, torch.bfloat16) and weight.dtype == torch.float32
    return shape_fits and dtypes_fit and _library() is not None


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, epsilon: float, silu: bool
) -> tuple[Tensor, Tensor]:
    """(B, C, H, W), bf16, channels-last, and means and inverse deviations (B, 2, G), fp32.

    `weight` and `bias` (C) and `shift` (B, C) are contiguous, in fp32.
    """
    y = torch.empty_like(x, dtype=torch.bfloat16, memory_format=CHANNELS_LAST)
    statistics = torch.empty(len(x), 2, groups)
    _run(x, groups, epsilon, silu, weight=weight, bias=bias, shift=shift, statistics=statistics, y=y)
    return y, statistics


def normalise_backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, statistics: Tensor, silu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of x, weight, bias and shift; `dy` is bf16 and channels-last, as y was."""
    dx = torch.empty_like(x, memory_format=CHANNELS_LAST)
    d_weight, d_bias, d_shift = (torch.empty(x.shape[:2]) for _ in range(3))  # (B, C)
    gradients = {"d_weight": d_weight, "d_bias": d_bias, "d_shift": d_shift}
    inputs = {"weight": weight, "bias": bias, "shift": shift, "statistics": statistics}
    _run(x, statistics.shape[2], 0.0, silu, dy=dy, dx=dx, **inputs, **gradients)
    return dx, d_weight.sum(0), d_bias.sum(0), None if shift is None else d_shift


def _run(x: Tensor, groups: int, epsilon: float, silu: bool, **tensors: Tensor | None) -> None:
    library = _library()
    assert library is not None  # the caller has checked `fits`
    batch, channels, height, width = x.shape
    work = _Work(batch, height * width, channels, groups, 0, epsilon, silu, x.dtype == torch.bfloat16)
    for name, tensor in {"x": x, **tensors}.items():
        setattr(work, name, None if tensor is None else tensor.data_ptr())
    run(library, work)


@cache
def _library() -> ctypes.CDLL | None:
    return kernel("group_norm_avx512")
