"""Which device and which arithmetic."""

from __future__ import annotations

import os

import torch

from limner.errors import InputError

NAMES = ("auto", "cuda", "mps", "cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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


def device_memory_gib(device: torch.device) -> float | None:
    """How much memory a GPU has in all; None for what shares the processor's."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Arithmetic of a training step; "auto" is bf16 on a GPU that has it, else fp32."""
    if precision != "auto":
        return DTYPES[precision]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def rendering_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Arithmetic of rendering; "auto" is fp16 on a GPU, else fp32."""
    if precision != "auto":
        return DTYPES[precision]
    return torch.float16 if device.type == "cuda" else torch.float32


def use_deterministic(on: bool) -> None:
    """Ask torch for algorithms that give equal bits run for run (slower on a GPU; the CPU's already do)."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
