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
AT_ONCE, AT_ONCE_ON_GPU = 4, 16
AT_ONCE_PX = 512 * 512  # larger pictures are fewer at once
RANK_MULTIPLE = 8  # of the ranks that a GPU computes with, in fp16 and bf16
ROOMY_GIB = 10  # a GPU with less takes as few as a processor


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a CUDA GPU, else Apple's, else the CPU.

    Raises InputError for a device that is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, found in there.items() if found))
    if name not in there:
        raise InputError(f'--device "{name}" is unknown; there are {", ".join(NAMES)}')
    if not there[name]:
        raise InputError(f'--device "{name}" was asked for and this machine has none; use --device cpu')
    return torch.device(name)


def dtype_named(precision: str) -> torch.dtype | None:
    """The precision of that name; None for "", which leaves it as it is. Raises InputError for another name."""
    if precision and precision not in DTYPES:
        raise InputError(f'--precision "{precision}" is unknown; there are {", ".join(DTYPES)}')
    return DTYPES.get(precision)


def device_memory_gib(device: torch.device) -> float | None:
    """How much memory a GPU has in all; None for what shares the processor's."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Arithmetic of a training step; "auto" is bf16 on a GPU that has it, else fp32: see `multiplies_in_bf16`."""
    if precision != "auto":
        return DTYPES[precision]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def in_channels_last(device: torch.device) -> bool:
    """Whether pictures and the weights of convolutions lie in channels-last order there; Apple's were not measured."""
    return device.type != "mps"


def multiplies_in_bf16(precision: str, device: torch.device) -> bool:
    """Whether what is computed in fp32 has its products in bf16: with "auto", on a processor with AMX.

    There such products are three to six times as fast. Other processors were not measured.
    """
    return precision == "auto" and device.type == "cpu" and bf16_instructions().get("amx_bf16", False)


def bf16_instructions() -> dict[str, bool]:
    """Whether the processor multiplies bf16 by itself, by instruction; empty where nothing is known."""
    flags = processor_flags()
    return {name: name in flags for name in ("avx512_bf16", "amx_bf16")} if flags else {}


@cache
def processor_flags() -> frozenset[str]:
    """What Linux says in /proc/cpuinfo that the processor can do; elsewhere nothing is known."""
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
    """How many pictures of `size` (width, height) are rendered at once: as set, or as the GPU's memory has room for.

    `memory_gib` is None for what has no memory of its own.
    """
    if batch_size != "auto":
        return batch_size
    if memory_gib is None or memory_gib < ROOMY_GIB:
        return AT_ONCE
    return max(1, min(AT_ONCE_ON_GPU, AT_ONCE_ON_GPU * AT_ONCE_PX // math.prod(size)))


def use_deterministic(on: bool) -> None:
    """Ask torch for algorithms that give equal bits run for run (slower on a GPU; the CPU's already do)."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Threads that are started while the block runs, and the one that runs it, compute with PyTorch alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
