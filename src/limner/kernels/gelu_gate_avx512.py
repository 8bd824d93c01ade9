"""`gelu_gate` in bf16 on a processor: `gelu_gate_avx512.c` through ctypes, on torch's threads."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from limner.kernels.compiled import kernel, run


class _Work(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "width", "next")),
        *((name, ctypes.c_void_p) for name in ("x", "d_out", "out", "dx")),
    )


def has_gate() -> bool:
    """Whether `gate` can be called: the processor has AVX-512 with bf16, and there is a compiler."""
    return _library() is not None


def gate(x: Tensor) -> Tensor:
    """h · gelu(gate) (…, D) of contiguous x (…, 2D), both bf16."""
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    _run(x, out=out)
    return out


def gate_backward(d_out: Tensor, x: Tensor) -> Tensor:
    """The gradient of x (…, 2D) from that of the output (…, D), both contiguous and bf16."""
    dx = torch.empty_like(x)
    _run(x, d_out=d_out, dx=dx)
    return dx


def _run(x: Tensor, **outputs: Tensor) -> None:
    library = _library()
    assert library is not None  # the caller has checked `has_gate`
    work = _Work(rows=x.numel() // x.shape[-1], width=x.shape[-1] // 2, x=x.data_ptr())
    for name, tensor in outputs.items():
        setattr(work, name, tensor.data_ptr())
    run(library, work)


@cache
def _library() -> ctypes.CDLL | None:
    return kernel("gelu_gate_avx512")
