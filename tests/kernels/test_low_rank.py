"""A linear layer with several low-rank updates, against the equation written out, one variant at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from limner.kernels.low_rank import low_rank_linear

RANKS = st.lists(st.integers(1, 5), min_size=1, max_size=4)
SCALES = st.sampled_from([[1.0], [0.5], [1.0, 2.0, 0.25]])


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def padded(tensors, dimension):
    """Stacked with zeros up to the largest rank."""
    largest = max(tensor.shape[dimension] for tensor in tensors)
    pad = [(0, 0, 0, largest - t.shape[0]) if dimension == 0 else (0, largest - t.shape[1]) for t in tensors]
    return torch.stack([functional.pad(t, p) for t, p in zip(tensors, pad, strict=True)])


def with_layer(gradients):
    """Buffers of down and up, the latter with its dimension of layers."""
    return gradients and (gradients[0], gradients[1][:, None])


@settings(max_examples=25, deadline=None)
@given(ranks=RANKS, scales=SCALES, buffered=st.booleans(), biased=st.booleans())
def test_stacked_variants_are_each_its_own_equation_and_gradient(ranks, scales, buffered, biased):
    count, scales = len(ranks), (scales * len(ranks))[: len(ranks)]
    weight, bias = numbers(0, 6, 4), numbers(1, 6) if biased else None
    downs = [numbers(10 + i, rank, 4).requires_grad_() for i, rank in enumerate(ranks)]
    ups = [numbers(20 + i, 6, rank).requires_grad_() for i, rank in enumerate(ranks)]
    x = numbers(2, 2 * count, 3, 4).requires_grad_()
    wanted = torch.cat(
        [
            functional.linear(part, weight, bias) + scale * (part @ down.mT) @ up.mT
            for part, down, up, scale in zip(x.chunk(count), downs, ups, scales, strict=True)
        ]
    )
    probe = numbers(3, *wanted.shape)
    expected = torch.autograd.grad((wanted * probe).sum(), [x, *downs, *ups])

    down, up = (padded([t.detach() for t in ts], d).requires_grad_() for ts, d in ((downs, 0), (ups, 1)))
    gradients = (torch.ones_like(down), torch.ones_like(up)) if buffered else None
    again = x.detach().clone().requires_grad_()
    found = low_rank_linear(again, weight, bias, down, up[:, None], scales, with_layer(gradients))
    (found * probe).sum().backward()
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert torch.allclose(again.grad, expected[0], rtol=1e-12, atol=1e-12)
    if buffered:  # added to the ones that were there
        assert down.grad is None
        d_down, d_up = (gradient - 1 for gradient in gradients)
    else:
        d_down, d_up = down.grad, up.grad
    for index, rank in enumerate(ranks):
        assert torch.allclose(d_down[index, :rank], expected[1 + index], atol=1e-12)
        assert torch.allclose(d_up[index, :, :rank], expected[1 + count + index], atol=1e-12)
        assert not d_down[index, rank:].any()
        assert not d_up[index, :, rank:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_frozen_weight_decides_the_precision(dtype):
    x, weight = numbers(0, 2, 3, 4).float(), numbers(1, 6, 4).to(dtype)
    down, up = numbers(2, 1, 2, 4).float().requires_grad_(), numbers(3, 1, 6, 2).float().requires_grad_()
    gradients = (torch.zeros_like(down), torch.zeros_like(up))
    found = low_rank_linear(x, weight, None, down, up[:, None], [1.0], with_layer(gradients))
    found.float().sum().backward()
    assert found.dtype == dtype
    assert gradients[0].dtype == torch.float32
    assert gradients[0].any()
    wanted = x @ weight.float().mT + (x @ down[0].mT) @ up[0].mT
    assert torch.allclose(found.float(), wanted, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("variants", [1, 2])
def test_layers_of_one_input_are_computed_jointly_as_each_by_itself(variants):
    layers, rank, scales = 3, 2, [0.5, 2.0][:variants]
    weight, x = numbers(0, layers * 6, 4), numbers(1, variants * 2, 3, 4).requires_grad_()
    down, up = numbers(2, variants, layers * rank, 4), numbers(3, variants, layers, 6, rank)
    probe = numbers(4, variants * 2, 3, layers * 6)
    gradients = (torch.zeros_like(down), torch.zeros_like(up))
    found = low_rank_linear(x, weight, None, down, up, scales, gradients, [down.clone().requires_grad_()])
    (dx,) = torch.autograd.grad((found * probe).sum(), x, retain_graph=True)
    wanted_dx = torch.zeros_like(dx)
    for layer in range(layers):
        own = slice(layer * 6, layer * 6 + 6)
        near = down[:, layer * rank : (layer + 1) * rank].clone().requires_grad_()
        far = up[:, layer : layer + 1].clone().requires_grad_()
        alone = low_rank_linear(x, weight[own], None, near, far, scales)
        assert torch.allclose(found[..., own], alone, atol=1e-12)
        part, d_near, d_far = torch.autograd.grad((alone * probe[..., own]).sum(), [x, near, far])
        wanted_dx += part
        assert torch.allclose(gradients[0][:, layer * rank : (layer + 1) * rank], d_near, atol=1e-12)
        assert torch.allclose(gradients[1][:, layer : layer + 1], d_far, atol=1e-12)
    assert torch.allclose(dx, wanted_dx, atol=1e-12)
