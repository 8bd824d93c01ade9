"""The Triton kernels against plain torch: on a GPU, or on a CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from limner.kernels.adamw import plain_squared_norms, plain_step, row_numbers
from limner.kernels.adamw_numbers import Hyperparameters
from limner.kernels.fused_adamw import FusedAdamW
from limner.kernels.rows import CHUNK
from tests.kernels.cases import KEYS, groups_of, in_rows, make_case, normal_parts, scattered

pytest.importorskip("triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="neither GPU nor interpreter"
)
HYPERPARAMETERS = Hyperparameters((0.9, 0.99), 1e-8, (0.05,))
RATES = torch.tensor([[1e-2, 3e-3], [2e-2, 1e-3]])  # of two rows and two groups


@pytest.mark.parametrize("form", ["fp32", "exact", "stochastic"])
@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize(("rows", "is_scattered"), [(1, True), (2, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 2])
def test_equals_the_plain_form_to_the_bit(form, eight_bit, rows, is_scattered, dtype, groups):
    from limner.kernels.adamw_triton import triton_squared_norms, triton_step

    cases = [make_case(form, eight_bit=eight_bit, rows=rows, device=DEVICE) for _ in range(2)]
    in_two = Hyperparameters((0.9, 0.99), 1e-8, (0.05, 0.5), groups_of([[0, 2], [1, 3]], DEVICE))
    settings = HYPERPARAMETERS if groups == 1 else in_two
    for seed in (2, 3):
        parts = normal_parts(seed, rows, dtype)
        gradients = scattered(parts[0], DEVICE) if is_scattered else in_rows(parts).to(DEVICE)
        norms = plain_squared_norms(gradients)
        assert torch.allclose(triton_squared_norms(gradients, chunk=2048), norms, rtol=1e-5)
        rates, updates = RATES[:rows, :groups].to(DEVICE), cases[0].updates.clone()
        numbers = row_numbers(cases[0].weight.dtype, rates, updates, norms, hyperparameters=settings, max_norm=1.0)
        for case, step in zip(cases, (plain_step, partial(triton_step, ieee=True)), strict=True):
            step(
                case.weight, gradients, case.moments, numbers, updates, hyperparameters=settings,
                remainder=case.remainder, keys=case.keys,
            )  # fmt: skip
            case.updates.add_(1)
    for name, tensor in cases[0].tensors().items():
        assert torch.equal(tensor, cases[1].tensors()[name]), name


def test_a_row_without_a_finite_norm_is_left_alone():
    from limner.kernels.adamw_triton import triton_squared_norms, triton_step

    case = make_case("exact", eight_bit=True, rows=2, device=DEVICE)
    before = {name: tensor.clone() for name, tensor in case.tensors().items()}
    gradients = in_rows(normal_parts(2, 2)).to(DEVICE)
    gradients[0, 300] = torch.inf
    norms, rates = triton_squared_norms(gradients, chunk=2048), torch.tensor([[1e-2], [1e-2]], device=DEVICE)
    numbers = row_numbers(torch.bfloat16, rates, case.updates, norms, hyperparameters=HYPERPARAMETERS)
    triton_step(
        case.weight, gradients, case.moments, numbers, case.updates, hyperparameters=HYPERPARAMETERS,
        remainder=case.remainder, keys=case.keys,
    )  # fmt: skip
    assert numbers.applied.tolist() == [False, True]
    for name, tensor in case.tensors().items():
        assert torch.equal(tensor[0], before[name][0]), name
        assert name == "updates" or not torch.equal(tensor[1], before[name][1]), name


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="graphs are captured on GPUs")
@pytest.mark.parametrize(("form", "eight_bit"), [("fp32", False), ("exact", True), ("stochastic", True)])
def test_a_captured_step_replays_as_an_eager_one(form, eight_bit):
    parts = [normal_parts(seed, 1, torch.bfloat16)[0] for seed in range(2, 7)]
    held = [part.to(DEVICE) for part in parts[0]]
    found = []
    for captured in (False, True):
        case, gradients = make_case(form, eight_bit=eight_bit, device=DEVICE), scattered(parts[0], DEVICE)
        gradients.point_at(held)
        optimizer = FusedAdamW(
            case.weight,
            remainder=case.remainder,
            hyperparameters=HYPERPARAMETERS,
            keys=KEYS[:1],
            eight_bit=eight_bit,
            max_norm=1.0,
        )
        start = {name: tensor.clone() for name, tensor in {"weight": case.weight, **optimizer.state()}.items()}
        rate = torch.tensor([[1e-2]], device=DEVICE)
        graph = torch.cuda.CUDAGraph()
        if captured:
            optimizer.step(gradients, rate)  # compiles the kernels
            gradients.addresses.zero_()
            with torch.cuda.graph(graph):
                optimizer.step(gradients, rate)
            gradients.point_at(held)
            optimizer.load_state({name: start[name] for name in optimizer.state()})
            optimizer.weight.copy_(start["weight"])
        for step, gradient in enumerate(parts):
            for place, value in zip(held, gradient, strict=True):
                place.copy_(value)
            rate.fill_(1e-2 / (step + 1))
            graph.replay() if captured else optimizer.step(gradients, rate)
        found.append({"weight": optimizer.weight, **optimizer.state()})
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name


def test_chunks_of_padding_are_passed_over_without_a_difference():
    """Two rows of three chunks; all but the first chunk of the second row is padding."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(2, 3 * CHUNK, generator=generator)
    gradient[1, CHUNK:] = 0.0
    weight = gradient.clone()
    alive = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.uint8, device=DEVICE)
    rates, found = torch.full((2, 1), 0.1, device=DEVICE), []
    for table in (None, alive):
        optimizer = FusedAdamW(
            weight.clone().to(DEVICE),
            hyperparameters=Hyperparameters(),
            keys=[(1, 2), (3, 4)],
            max_norm=1.0,
            alive=table,
        )
        for _ in range(2):
            optimizer.step(gradient.to(DEVICE), rates)
        found.append({"weight": optimizer.weight, "norms": optimizer.norms, **optimizer.state()})
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())
