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
    """Have these parts of a base on its device for the time of the block; what came from elsewhere goes back there.

    Parts that lie on the device already, and a safety checker that the base has not, are left alone. What parts
    leave behind is given back to the GPU, so that it counts for others.
    """
    moved: list[tuple[nn.Module, torch.device]] = []
    try:
        for part in parts:
            module = getattr(base, part)
            if module is not None and not _same(place := _place_of(module), base.device):
                moved.append((module, place))
                module.to(base.device)
        yield
    finally:
        for module, place in reversed(moved):
            module.to(place)
        if moved and base.device.type == "cuda":
            torch.cuda.empty_cache()


def put_aside(base: Base) -> None:
    """Let all parts of a base wait on the CPU, so that another base has the device for itself."""
    for module in base.parts():
        module.to("cpu")
    if base.device.type == "cuda":
        torch.cuda.empty_cache()


def _place_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _same(one: torch.device, other: torch.device) -> bool:
    """Whether two devices are the same, "cuda" being any of its numbers."""
    return one.type == other.type and (one.index is None or other.index is None or one.index == other.index)
