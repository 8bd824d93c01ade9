"""Upsampling by copied words is torch's upsampling to the nearest, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from limner.kernels.nearest_upsampling import upsample_nearest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("channels", [4, 6, 320])  # six halves are no whole words
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_every_pixel_four_times(channels, dtype, layout):
    x = torch.randn(2, channels, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=layout)
    with torch.no_grad():
        found = upsample_nearest(x)
    assert torch.equal(found, functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert found.is_contiguous(memory_format=layout)


def test_gradients_are_sums_of_four():
    x = torch.ones(1, 4, 2, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(upsample_nearest(x).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 4.0))
