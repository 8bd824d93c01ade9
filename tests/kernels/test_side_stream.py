"""Gradients from the side stream are those of the main stream."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from limner.kernels.convolution import convolution
from limner.kernels.linear import joint_linear
from limner.kernels.residual import add_bias
from limner.kernels.side_stream import SideStream

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def gradients(block, passes: int) -> list[torch.Tensor]:
    """Of a few layers after as many backward passes, inside `block`."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(64, 64) for _ in range(7)] + [nn.Conv2d(64, 64, 3, padding=1)]).cuda()
    x = torch.randn(2, 64, 8, 8, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
    with block:
        for _ in range(passes):
            pictures = add_bias(convolution(layers[-1], x), layers[-1].bias)
            rows = pictures.permute(0, 2, 3, 1).flatten(1, 2)
            for layer in layers[:-1]:
                rows = joint_linear(rows, [layer.weight], [layer.bias]).tanh()
            rows.square().sum().backward()
    return [parameter.grad for parameter in (*layers.parameters(), x)]


@needs_gpu
@pytest.mark.parametrize("passes", [1, 2])
def test_gradients_are_the_same_to_the_bit(passes):
    for one, other in zip(gradients(SideStream("cuda"), passes), gradients(nullcontext(), passes), strict=True):
        assert torch.equal(one, other)


@needs_gpu
def test_a_failed_block_leaves_nothing_under_way():
    side_stream, ran = SideStream("cuda"), []

    def fail() -> None:
        with side_stream:
            side_stream.run(lambda: ran.append(False))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with side_stream:
        side_stream.run(lambda: ran.append(True))
    assert ran == [True]
