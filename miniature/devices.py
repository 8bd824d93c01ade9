"""How parts use a device: precision, memory layout, switches."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast on a GPU, float32 elsewhere."""
    if device.startswith("cuda"):
        # Cached casts would outlive the graph that they were captured in.
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def layout(device: torch.device | str) -> torch.memory_format:
    """Channels last on a GPU, where convolutions in bfloat16 want it."""
    return torch.channels_last if str(device).startswith("cuda") else torch.contiguous_format


def prepare_device(device: str) -> None:
    """Settings that every GPU part shares."""
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
