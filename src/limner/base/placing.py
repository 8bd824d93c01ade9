"""Parts of a base on the device for as long as they work, on the CPU meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from limner.base.load import Base

Part = Literal["unet", "text_encoder", "vae", "safety_checker"]


@contextlib.contextmanager
def placed(base: Base, *parts: Part) -> Iterator[None]:
    """Have these parts of a base on its device for the time of the block: see `modules_placed`."""
    with modules_placed(base.device, *(getattr(base, part) for part in parts)):
        yield


@contextlib.contextmanager
def modules_placed(device: torch.device, *modules: nn.Module | None) -> Iterator[None]:
    """Have modules on a device for the time of the block; what came from elsewhere goes back there.

    Those that lie on the device already, and None for what a base has not, are left alone. What modules leave behind
    is given back to the GPU, so that it counts for others.
    """
    moved: list[tuple[nn.Module, torch.device]] = []
    try:
        for module in modules:
            if module is not None and not same_device(place := _place_of(module), device):
                moved.append((module, place))
                module.to(device)
        yield
    finally:
        for module, place in reversed(moved):
            module.to(place)
        if moved:
            torch.cuda.empty_cache()


def _place_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether two devices are the same, "cuda" being any of its numbers."""
    return one.type == other.type and (one.index is None or other.index is None or one.index == other.index)
