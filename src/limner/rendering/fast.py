"""How a grid is rendered on this device: memory layout, fused blocks, capturing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from limner.base import Base
from limner.blocks import fused
from limner.rendering.captured import CapturedDenoiser, CudaCapture
from limner.rendering.denoiser import Denoiser, PlainDenoiser


@contextlib.contextmanager
def fast_denoiser(base: Base, controlnet: Any, notice: Callable[[str], None]) -> Iterator[Denoiser]:
    """What denoises a whole grid: on a GPU channels-last, fused and captured, elsewhere the modules as they are."""
    plain = PlainDenoiser(base.unet, controlnet)
    with fast(base.device, base.unet, controlnet):
        yield CapturedDenoiser(plain, notice, CudaCapture()) if base.device.type == "cuda" else plain


@contextlib.contextmanager
def fast(device: torch.device, *networks: nn.Module | None) -> Iterator[None]:
    """A block in which networks that lie on a GPU compute channels-last and fused; elsewhere they are left alone.

    They keep their values; on a GPU the layout of their weights in memory stays changed.
    """
    if device.type != "cuda":
        yield
        return
    there: list[Any] = [network for network in networks if network is not None]
    for network in there:
        network.to(memory_format=torch.channels_last)
    with fused(*there):
        yield
