"""Group norm in C, to bf16, equals the plain one to what bf16 can tell."""

from __future__ import annotations

import pytest
import torch

from limner.kernels.group_norm import group_norm, plain_group_norm
from limner.kernels.group_norm_avx512 import fits, normalise, normalise_backward
from limner.kernels.half_products import HalfProducts

LAST = torch.channels_last
EPSILON = 1e-5


def drawn(channels=48, height=5, width=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(channels)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator)

    x = (2 * numbers(2, channels, height, width) + 1).to(dtype, memory_format=LAST)
    dy = numbers(2, channels, height, width).to(torch.bfloat16, memory_format=LAST)
    return x, numbers(channels), numbers(channels), numbers(2, channels), dy


pytestmark = pytest.mark.skipif(
    not fits(*drawn()[:2], 8), reason="needs a processor with AVX-512 in bf16, and a C compiler"
)


def distance(found, wanted):
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("channels", [16, 48])
def test_it_and_its_gradients_are_the_plain_ones(dtype, silu, shifted, channels):
    x, weight, bias, shift, dy = drawn(channels, dtype=dtype)
    given = (x, weight, bias, *([shift] if shifted else []))
    exact = [each.double().requires_grad_() for each in given]
    moved = exact[3] if shifted else None
    wanted = plain_group_norm(*exact[:3], 8, EPSILON, silu=silu, shift=moved)
    gradients = torch.autograd.grad(wanted, exact, dy.double())
    y, statistics = normalise(x, weight, bias, shift if shifted else None, 8, EPSILON, silu)
    found = normalise_backward(dy, x, weight, bias, shift if shifted else None, statistics, silu)
    assert distance(y, wanted.detach()) < 0.003
    assert (found[3] is None) is not shifted
    for own, gradient in zip(found, gradients, strict=False):
        assert distance(own, gradient) < 0.003


def test_threads_change_nothing():
    x, weight, bias, shift, dy = drawn()
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            y, statistics = normalise(x, weight, bias, shift, 8, EPSILON, True)
            found.append([y, *normalise_backward(dy, x, weight, bias, shift, statistics, True)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(own, other) for own, other in zip(*found, strict=True))


@pytest.mark.parametrize("fitting", [True, False])
def test_where_products_are_in_bf16_it_is_taken_if_it_fits(fitting):
    x, weight, bias, shift, dy = drawn(48 if fitting else 24, height=16, width=8)
    for each in (x, weight, bias, shift):
        each.requires_grad_()
    plain = plain_group_norm(x, weight, bias, 8, EPSILON, silu=True, shift=shift)
    wanted = torch.autograd.grad(plain, (x, weight, bias, shift), dy.float())
    with HalfProducts():
        y = group_norm(x, weight, bias, 8, EPSILON, silu=True, shift=shift)
        found = torch.autograd.grad(y, (x, weight, bias, shift), dy.to(y.dtype))
    assert y.dtype == (torch.bfloat16 if fitting else torch.float32)
    for own, gradient in zip((y, *found), (plain, *wanted), strict=True):
        assert own.dtype == gradient.dtype or own is y
        assert distance(own, gradient) < 0.003
