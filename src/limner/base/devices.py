"""Which device and which arithmetic."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from limner.errors import InputError

NAMES = ("auto", "cuda", "mps", "cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BATCH, BATCH_ON_GPU = 4, 16
BATCH_PX = 512 * 512  # pictures with more pixels are rendered in smaller batches
RANK_MULTIPLE = 8  # a GPU computes fp16 and bf16 with ranks padded to a multiple of it
LARGE_GPU_GIB = 10  # a GPU with less memory uses the processor's batch size


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a CUDA GPU, else Apple's, else the CPU.

    Raises InputError for a device that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, is_available in available.items() if is_available))
    if name not in available:
        raise InputError(f'--device "{name}" is unknown; there are {", ".join(NAMES)}')
    if not available[name]:
        raise InputError(f'--device "{name}" was asked for but this machine has none; use --device cpu')
    return torch.device(name)


def dtype_named(precision: str) -> torch.dtype | None:
    """The precision of that name; None for "" (each file's precision). Raises InputError for another name."""
    if precision and precision not in DTYPES:
        raise InputError(f'--precision "{precision}" is unknown; there are {", ".join(DTYPES)}')
    return DTYPES.get(precision)


def device_memory_gib(device: torch.device) -> float | None:
    """A GPU's total memory; None for devices that share the processor's."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Arithmetic of a training step; "auto" is bf16 on a GPU that has it, else fp32: see `multiplies_in_bf16`."""
    if precision != "auto":
        return DTYPES[precision]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def in_channels_last(device: torch.device) -> bool:
    """Whether pictures and convolution weights are in channels-last order there; not measured on Apple's GPUs."""
    return device.type != "mps"


def multiplies_in_bf16(precision: str, device: torch.device) -> bool:
    """Whether fp32 computations do their products in bf16: with "auto", on a processor with AMX.

    There these products are three to six times as fast. Other processors were not measured.
    """
    return precision == "auto" and device.type == "cpu" and bf16_instructions().get("amx_bf16", False)


def bf16_instructions() -> dict[str, bool]:
    """Which instructions for bf16 products the processor has; empty where this is unknown."""
    flags = processor_flags()
    return {name: name in flags for name in ("avx512_bf16", "amx_bf16")} if flags else {}


@cache
def processor_flags() -> frozenset[str]:
    """The words of Linux's /proc/cpuinfo, flags of the processor among them; empty on other systems."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return frozenset()


def rendering_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Arithmetic of rendering; "auto" is fp16 on a GPU, else fp32."""
    if precision != "auto":
        return DTYPES[precision]
    return torch.float16 if device.type == "cuda" else torch.float32


def pictures_at_once(batch_size: int | Literal["auto"], size: tuple[int, int], memory_gib: float | None) -> int:
    """How many pictures of `size` (width, height) are rendered at once: as set, or as many as fit in the GPU's memory.

    `memory_gib` is None for a device without separate memory.
    """
    if batch_size != "auto":
        return batch_size
    if memory_gib is None or memory_gib < LARGE_GPU_GIB:
        return BATCH
    return max(1, min(BATCH_ON_GPU, BATCH_ON_GPU * BATCH_PX // math.prod(size)))


def use_deterministic(on: bool) -> None:
    """Ask torch for algorithms that give equal bits run for run (slower on a GPU; on a CPU they always do)."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """In this block PyTorch uses one thread for each thread that calls it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
