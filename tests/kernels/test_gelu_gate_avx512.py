"""The gated unit in C equals the plain one to what bf16 can tell."""

from __future__ import annotations

import pytest
import torch

from limner.kernels.gelu_gate import gelu_gate, plain_gelu_gate
from limner.kernels.gelu_gate_avx512 import gate, gate_backward, has_gate

pytestmark = pytest.mark.skipif(not has_gate(), reason="needs a processor with AVX-512 in bf16, and a C compiler")


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 40), (200, 17), (65, 128)])
def test_it_and_its_gradient_are_the_plain_ones(rows, width):
    generator = torch.Generator().manual_seed(rows)
    x = (3 * torch.randn(rows, 2 * width, generator=generator)).to(torch.bfloat16)
    d_out = torch.randn(rows, width, generator=generator).to(torch.bfloat16)
    exact = x.double().requires_grad_()
    wanted = plain_gelu_gate(exact)
    (d_wanted,) = torch.autograd.grad(wanted, exact, d_out.double())
    torch.testing.assert_close(gate(x).double(), wanted.detach(), rtol=0.005, atol=1e-6)
    torch.testing.assert_close(gate_backward(d_out, x).double(), d_wanted, rtol=0.01, atol=1e-4)


def test_far_gates_are_open_or_shut():
    x = torch.tensor([[2.0, 2.0, 2.0, -30.0, 0.0, 30.0]], dtype=torch.bfloat16)
    assert gate(x).tolist() == [[0.0, 0.0, 60.0]]
    assert gate_backward(torch.ones(1, 3, dtype=torch.bfloat16), x).tolist() == [[0.0, 0.0, 30.0, 0.0, 1.0, 2.0]]


def test_bf16_on_a_processor_takes_it():
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).requires_grad_()
    y = gelu_gate(x)
    y.backward(torch.ones_like(y))
    assert torch.equal(y, gate(x.detach()))
    assert x.grad is not None
    assert torch.equal(x.grad, gate_backward(torch.ones_like(y), x.detach()))
