"""`attention` on a processor with AMX: `attention_amx.c` through ctypes, on the threads that torch computes with.

torch's own kernel takes 5 ms forward in bf16 and 15 back in fp32 for two examples of 4 heads, 1,024 tokens and 16
numbers on one thread; this one takes 3 and 4, and does not copy the inputs, whose heads lie side by side.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from limner.kernels.compiled import AVX512, kernel, run

INSTRUCTIONS = AVX512 | {"amx_tile": "-mamx-tile", "amx_bf16": "-mamx-bf16"}
TENSORS = ("query", "key", "value", "attended", "d_attended", "out", "d_query", "d_key", "d_value", "sums")
READ = ("query", "key", "value", "d_attended")  # which may be slices of wider rows
SIZES = ("batch", "heads", "queries", "keys", "width")


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in SIZES),
        ("strides", ctypes.c_int64 * 2 * len(READ)),
        ("scale", ctypes.c_float),
    )


class _Work(ctypes.Structure):
    _fields_ = (
        ("shape", _Shape),
        *((name, ctypes.c_void_p) for name in TENSORS),
        ("backward", ctypes.c_int),
        ("next", ctypes.c_int64),
        ("failed", ctypes.c_int),
    )


def has_tiles() -> bool:
    """Whether `attend` can be called: the processor has tiles, the system allows them, and there is a compiler."""
    return _library() is not None


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """The attention's output (B, T, h·d), bf16, and the sums that `attend_backward` needs (B, h, T), fp32.

    `query` is (B, T, h·d), `key` and `value` (B, S, h·d), all in bf16. Raises MemoryError.
    """
    work, inputs = _work(heads, query=query, key=key, value=value)
    out = torch.empty(query.shape, dtype=torch.bfloat16)
    sums = torch.empty(len(query), heads, query.shape[1])
    work.out, work.sums = out.data_ptr(), sums.data_ptr()
    _run(work)
    del inputs
    return out, sums


def attend_backward(
    d_attended: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, sums: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `query`, `key` and `value`, shaped as these, bf16; `attended` and `sums` are `attend`'s."""
    work, inputs = _work(heads, query=query, key=key, value=value, d_attended=d_attended)
    gradients = tuple(torch.empty(each.shape, dtype=torch.bfloat16) for each in (query, key, value))
    work.attended, work.sums, work.backward = attended.data_ptr(), sums.data_ptr(), 1
    work.d_query, work.d_key, work.d_value = (each.data_ptr() for each in gradients)
    _run(work)
    del inputs
    return gradients  # type: ignore[return-value]


def _work(heads: int, **read: Tensor) -> tuple[_Work, list[Tensor]]:
    """The call's structure, and the input tensors that must live until it is done."""
    work, inputs = _Work(), []
    query, key = read["query"], read["key"]
    width = query.shape[2] // heads
    for name, size in zip(SIZES, (len(query), heads, query.shape[1], key.shape[1], width), strict=True):
        setattr(work.shape, name, size)
    work.shape.scale = width**-0.5
    for name, tensor in read.items():
        contiguous = tensor if tensor.stride(2) == 1 else tensor.contiguous()
        inputs.append(contiguous)
        setattr(work, name, contiguous.data_ptr())
        work.shape.strides[READ.index(name)][:] = contiguous.stride()[:2]
    return work, inputs


def _run(work: _Work) -> None:
    library = _library()
    assert library is not None  # the caller has checked `has_tiles`
    run(library, work)


@cache
def _library() -> ctypes.CDLL | None:
    library = kernel("attention_amx", INSTRUCTIONS)
    return library if library is not None and library.allowed() else None
