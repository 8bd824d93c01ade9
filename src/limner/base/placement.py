"""Moves parts of a base to the device while they work, and back to the CPU afterwards."""

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
    """Have these parts of a base on its device during the block: see `modules_placed`."""
    with modules_placed(base.device, *(getattr(base, part) for part in parts)):
        yield


@contextlib.contextmanager
def modules_placed(device: torch.device, *modules: nn.Module | None) -> Iterator[None]:
    """Have modules on a device during the block; those that were elsewhere are moved back afterwards.

    Modules that are already on the device, and None for parts that a base lacks, are left alone. Memory that they leave
    is released, so that other programs can use it.
    """
    moved: list[tuple[nn.Module, torch.device]] = []
    try:
        for module in modules:
            if module is not None and not same_device(origin := _device_of(module), device):
                moved.append((module, origin))
                module.to(device)
        yield
    finally:
        for module, origin in reversed(moved):
            module.to(origin)
        if moved:
            torch.cuda.empty_cache()


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def same_device(first: torch.device, second: torch.device) -> bool:
    """Whether two devices are the same, "cuda" matching every index."""
    return first.type == second.type and (first.index is None or second.index is None or first.index == second.index)
