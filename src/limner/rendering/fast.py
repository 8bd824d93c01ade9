"""How a grid is rendered on this device: memory layout, capturing, how many pictures at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch

from limner.base import Base
from limner.blocks import fused
from limner.rendering.captured import CapturedDenoiser, CudaCapture
from limner.rendering.denoiser import Denoiser, PlainDenoiser

AT_ONCE, AT_ONCE_ON_GPU = 4, 16
AT_ONCE_PX = 512 * 512  # larger pictures are fewer at once
ROOMY_BYTES = 10 * 2**30  # a GPU with less takes as few as a processor

BatchSize = int | Literal["auto"]


@contextlib.contextmanager
def fast_denoiser(base: Base, controlnet: Any, notice: Callable[[str], None]) -> Iterator[Denoiser]:
    """What denoises a whole grid: on a GPU channels-last, fused and captured, elsewhere the modules as they are.

    The modules keep their values; on a GPU the layout of their weights in memory stays changed.
    """
    plain = PlainDenoiser(base.unet, controlnet)
    if base.device.type != "cuda":
        yield plain
        return
    networks = [base.unet, base.vae, *([] if controlnet is None else [controlnet])]
    for network in networks:
        network.to(memory_format=torch.channels_last)
    with fused(*networks), _benchmarked_convolutions():
        yield CapturedDenoiser(plain, notice, CudaCapture())


@contextlib.contextmanager
def _benchmarked_convolutions() -> Iterator[None]:
    """Let cuDNN choose its convolutions by trying them, unless equal bits are asked for."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def pictures_at_once(batch_size: BatchSize, size: tuple[int, int], device: torch.device) -> int:
    """How many pictures of `size` (width, height) a batch takes: as set, or as the device is made for."""
    if batch_size != "auto":
        return batch_size
    if device.type != "cuda" or torch.cuda.get_device_properties(device).total_memory < ROOMY_BYTES:
        return AT_ONCE
    return max(1, min(AT_ONCE_ON_GPU, AT_ONCE_ON_GPU * AT_ONCE_PX // math.prod(size)))
