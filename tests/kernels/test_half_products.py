"""Products in bf16 between activations in fp32: outputs and gradients near fp32's, frozen weights rounded once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from limner.blocks.layers import linear, linear_jointly
from limner.kernels.attention import attention
from limner.kernels.half_products import FEWEST_ROWS, HalfProducts, half_convolution, half_products
from limner.kernels.low_rank import low_rank_linear

ROWS = FEWEST_ROWS
NEAR = 0.02  # of the largest number: bf16 keeps eight bits, and products add up several roundings


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(found, wanted):
    return (found - wanted).abs().max() <= NEAR * wanted.abs().max()


def gradients(work, *inputs):
    """Output of `work` and the gradients of its inputs for a fixed gradient of the output."""
    output = work()
    return [output, *torch.autograd.grad(output, inputs, numbers(99, *output.shape).to(output.dtype))]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_a_layer_that_learns(biased, inner):
    layer, x = nn.Linear(12, 20, bias=biased), numbers(0, 2, ROWS // 2, 12).requires_grad_()
    wanted = gradients(lambda: layer(x), x, *layer.parameters())
    with HalfProducts():
        found = gradients(lambda: linear(layer, x, inner=inner), x, *layer.parameters())
    assert found[0].dtype == (torch.bfloat16 if inner else torch.float32)
    assert all(each.dtype == torch.float32 for each in found[1:])
    assert all(near(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))
    assert not torch.equal(found[0].float(), wanted[0])  # they were rounded


def test_layers_of_one_input_from_one_product():
    joint = numbers(1, 24, 12)
    layers = [nn.Linear(12, 8, bias=False) for _ in range(3)]
    for layer, part in zip(layers, joint.split(8), strict=True):
        layer.weight.data = part
    x, learning = numbers(2, 1, ROWS, 12).requires_grad_(), [layer.weight for layer in layers]
    wanted = gradients(lambda: torch.cat([layer(x) for layer in layers], -1), x, *learning)
    with HalfProducts():
        found = gradients(lambda: torch.cat(list(linear_jointly(layers, x)), -1), x, *learning)
    assert all(near(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_a_convolution(stride):
    x, weight, bias = (numbers(*shape).requires_grad_() for shape in ((3, 2, 6, 10, 10), (4, 8, 6, 3, 3), (5, 8)))
    geometry = (stride, (1, 1), (1, 1))
    wanted = gradients(lambda: functional.conv2d(x, weight, bias, *geometry), x, weight, bias)
    with HalfProducts() as half:
        found = gradients(lambda: half_convolution(half, x, weight, bias, *geometry), x, weight, bias)
    assert all(near(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("buffered", [True, False])
def test_stacked_low_rank_updates_of_layers_side_by_side(layers, buffered):
    weight, scales = numbers(6, layers * 10, 12), [1.0, 0.5]
    x = numbers(7, 2 * ROWS, 1, 12).requires_grad_()
    down, up = numbers(8, 2, layers * 4, 12).requires_grad_(), numbers(9, 2, layers, 10, 4).requires_grad_()

    def computed():
        buffers = (torch.zeros_like(down), torch.zeros_like(up)) if buffered else None
        y = low_rank_linear(x, weight, None, down, up, scales, buffers)
        inputs = [x] if buffers else [x, down, up]
        return [y, *torch.autograd.grad(y, inputs, numbers(99, *y.shape).to(y.dtype)), *(buffers or ())]

    wanted = computed()
    with HalfProducts():
        found = computed()
    assert found[0].dtype == torch.bfloat16
    assert all(near(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("causal", [True, False])
def test_attention_rounds_its_input_and_result_alone(causal):
    rounded = [numbers(seed, 2, 40, 16).to(torch.bfloat16).requires_grad_() for seed in (10, 11, 12)]
    whole = [each.detach().float().requires_grad_() for each in rounded]
    wanted = gradients(lambda: attention(whole[0], whole[1], whole[2], 2, causal=causal), *whole)
    found = gradients(lambda: attention(rounded[0], rounded[1], rounded[2], 2, causal=causal), *rounded)
    assert all(near(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


def test_frozen_weights_are_rounded_once_and_those_that_learn_every_time():
    half, frozen, learning = HalfProducts(), numbers(13, 4, 4), numbers(14, 4, 4).requires_grad_()
    assert half.rounded(frozen) is half.rounded(frozen)
    first = half.rounded(learning)
    with torch.no_grad():
        learning.add_(1)
    assert torch.equal(half.rounded(learning), learning.detach().to(torch.bfloat16))
    assert not torch.equal(half.rounded(learning), first)


def test_few_rows_and_work_outside_of_the_block_stay_in_fp32():
    many, few = numbers(15, ROWS, 4), numbers(16, ROWS - 1, 4)
    assert half_products(many) is None
    with HalfProducts() as half:
        assert half_products(many) is half
        assert half_products(numbers(17, 2, 4, 8, ROWS // 16)) is half
        assert half_products(few) is None
    assert half_products(many) is None
