"""How a grid is rendered on this device: memory layout, fused blocks, capturing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from limner.base import Base
from limner.blocks import fast
from limner.rendering.captured import CapturedDenoiser, CudaCapture
from limner.rendering.denoiser import Denoiser, PlainDenoiser


@contextlib.contextmanager
def fast_denoiser(
    base: Base, controlnet: Any, notice: Callable[[str], None], *, half_products: bool = False
) -> Iterator[Denoiser]:
    """A denoiser for a whole grid: on a GPU channels-last, fused and captured; elsewhere the plain modules.

    With `half_products`, for processors, they are channels-last and fused too, and their products are in bf16.
    """
    with fast(base.device, base.unet, controlnet, everywhere=half_products):
        plain = PlainDenoiser(base.unet, controlnet, half_products)
        yield CapturedDenoiser(plain, notice, CudaCapture()) if base.device.type == "cuda" else plain
