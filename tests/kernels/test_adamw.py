"""The fused AdamW in plain torch: against torch's, row by row, and what it leaves untouched."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from limner.diffusion.randomness import philox_key, random_words
from limner.errors import InputError, LimnerError
from limner.kernels.adamw import adamw_step, plain_step, row_numbers, squared_norms
from limner.kernels.adamw_numbers import Hyperparameters, Moments
from limner.kernels.fused_adamw import FusedAdamW
from limner.kernels.rounding_bits import rounding_bits
from limner.kernels.rows import ScatteredGradients, row_layout
from limner.kernels.split_weights import join
from tests.kernels.cases import KEYS, LAYOUT, groups_of, in_rows, make_case, normal_parts, scattered

HYPERPARAMETERS = Hyperparameters((0.9, 0.99), 1e-8, (0.05,))


def torch_steps(weight, gradients, settings, learning_rate, max_norm=0.0):
    parameter = nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decays[0],
    )
    for gradient in gradients:
        parameter.grad = gradient.clone()
        if max_norm:
            nn.utils.clip_grad_norm_([parameter], max_norm)
        optimizer.step()
    return parameter.detach()


def steps_of_ours(form, gradients, learning_rates, **settings):
    case = make_case(form, rows=len(learning_rates))
    optimizer = FusedAdamW(
        case.weight,
        remainder=case.remainder,
        hyperparameters=HYPERPARAMETERS,
        keys=KEYS[: len(learning_rates)],
        **settings,
    )
    for gradient in gradients:
        optimizer.step(gradient.clone(), learning_rates[:, None])
    return optimizer


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp64", 1e-12), ("fp32", 2e-6)])
@pytest.mark.parametrize("max_norm", [0.0, 2.0])
def test_equals_torch(dtype, tolerance, max_norm):
    precision = torch.float64 if dtype == "fp64" else torch.float32
    gradients = [in_rows(normal_parts(seed, 2, precision)) for seed in range(2, 12)]
    rates = torch.tensor([1e-2, 3e-3], dtype=torch.float64)
    ours = steps_of_ours(dtype, gradients, rates, max_norm=max_norm)
    start = make_case(dtype, rows=2).weight
    if max_norm:
        tolerance = max(tolerance, 2e-9)  # the factor of clipping rounds its own way
    for row in range(2):
        theirs = torch_steps(start[row], [g[row] for g in gradients], HYPERPARAMETERS, rates[row].item(), max_norm)
        assert (ours.weight[row] - theirs).abs().max() < tolerance
    assert ours.updates.tolist() == [10, 10]


def torch_steps_in_groups(start, gradients, learning_rates, settings, chosen):
    """torch.optim.AdamW with param_groups, of `chosen` {group: tensors}, in the layout's order again."""
    parameters = [nn.Parameter(part.clone()) for part in LAYOUT.segments(start)]
    groups = [
        {"params": [parameters[index] for index in tensors], "lr": rate, "weight_decay": decay}
        for tensors, rate, decay in zip(chosen, learning_rates, settings.weight_decays, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.epsilon)
    for gradient in gradients:
        for parameter, part in zip(parameters, LAYOUT.segments(gradient), strict=True):
            parameter.grad = part.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("form", ["fp32", "fp64", "exact"])
@pytest.mark.parametrize("is_scattered", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_groups_have_learning_rates_and_weight_decays_of_their_own_as_in_torch(form, is_scattered, plain):
    precision, chosen = torch.float64 if form == "fp64" else torch.float32, [[0, 2], [1, 3]]
    settings = Hyperparameters((0.9, 0.99), 1e-8, (0.05, 0.5), groups_of(chosen))
    rates = torch.tensor([[1e-2, 3e-3]], dtype=torch.float64)
    case = make_case(form)
    start = case.weight.clone() if case.remainder is None else join(case.weight, case.remainder)
    parts = [normal_parts(seed, 1, precision) for seed in range(2, 8)]
    optimizer = FusedAdamW(case.weight, remainder=case.remainder, hyperparameters=settings, keys=KEYS[:1])
    for step, part in enumerate(parts):
        gradients = scattered(part[0]) if is_scattered else in_rows(part)
        if not plain:
            optimizer.step(gradients, rates)
            continue
        updates, norms = torch.tensor([step]), squared_norms(gradients)
        numbers = row_numbers(precision, rates, updates, norms, hyperparameters=settings)
        tensors = case.weight, gradients, optimizer.moments, numbers, updates
        plain_step(*tensors, hyperparameters=settings, remainder=case.remainder)
    ours = case.weight if case.remainder is None else join(case.weight, case.remainder)
    theirs = torch_steps_in_groups(start[0], [in_rows(part)[0] for part in parts], rates[0].tolist(), settings, chosen)
    for mine, other in zip(LAYOUT.segments(ours[0]), theirs, strict=True):
        assert (mine - other).abs().max() < (1e-12 if form == "fp64" else 2e-6)


@pytest.mark.parametrize("form", ["fp32", "exact", "stochastic"])
@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("is_scattered", [False, True])
def test_groups_that_share_rate_and_decay_give_the_bits_of_one(form, eight_bit, is_scattered):
    results = []
    for settings in (HYPERPARAMETERS, Hyperparameters((0.9, 0.99), 1e-8, (0.05, 0.05), groups_of([[0, 2], [1, 3]]))):
        case = make_case(form, eight_bit=eight_bit)
        optimizer = FusedAdamW(
            case.weight, remainder=case.remainder, hyperparameters=settings, keys=KEYS[:1], eight_bit=eight_bit
        )
        for seed in (2, 3):
            parts = normal_parts(seed, 1)
            gradients = scattered(parts[0]) if is_scattered else in_rows(parts)
            optimizer.step(gradients, torch.full((1, len(settings.weight_decays)), 1e-2))
        results.append(optimizer)
    assert torch.equal(results[0].weight, results[1].weight)
    for name, tensor in results[0].state().items():
        assert torch.equal(tensor, results[1].state()[name]), name


@pytest.mark.parametrize("form", ["fp32", "fp64", "exact"])
def test_the_plain_form_equals_torch_too(form):
    case, precision = make_case(form), torch.float64 if form == "fp64" else torch.float32
    start = case.weight.clone() if case.remainder is None else join(case.weight, case.remainder)
    gradients = [in_rows(normal_parts(seed, 1, precision)) for seed in range(2, 8)]
    for step, gradient in enumerate(gradients):
        updates, rate = torch.tensor([step]), torch.tensor([[1e-2]], dtype=torch.float64)
        numbers = row_numbers(precision, rate, updates, squared_norms(gradient), hyperparameters=HYPERPARAMETERS)
        plain_step(
            case.weight,
            gradient,
            case.moments,
            numbers,
            updates,
            hyperparameters=HYPERPARAMETERS,
            remainder=case.remainder,
        )
    found = case.weight if case.remainder is None else join(case.weight, case.remainder)
    theirs = torch_steps(start, gradients, HYPERPARAMETERS, 1e-2)
    assert (found - theirs).abs().max() < (1e-12 if form == "fp64" else 2e-6)


@pytest.mark.parametrize("form", ["fp32", "exact", "stochastic"])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_scattered_gradients_are_as_good_as_rows(form, eight_bit):
    parts = normal_parts(3, 1)
    found = []
    for gradients in (in_rows(parts), scattered(parts[0])):
        case = make_case(form, eight_bit=eight_bit)
        optimizer = FusedAdamW(
            case.weight, remainder=case.remainder, hyperparameters=HYPERPARAMETERS, keys=KEYS[:1], eight_bit=eight_bit
        )
        optimizer.step(gradients, torch.tensor([[1e-2]]))
        found.append(optimizer)
    assert torch.allclose(found[0].norms, found[1].norms, rtol=1e-6)
    for name, tensor in found[0].state().items():
        assert torch.equal(tensor, found[1].state()[name]), name
    assert torch.equal(found[0].weight, found[1].weight)


@pytest.mark.parametrize("form", ["fp32", "exact", "stochastic"])
@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_without_a_finite_norm_is_left_alone(form, eight_bit, bad):
    good = in_rows(normal_parts(2, 2))
    optimizer = steps_of_ours(form, [good], torch.tensor([1e-2, 1e-2]), eight_bit=eight_bit)
    before = {name: tensor.clone() for name, tensor in {**optimizer.state(), "weight": optimizer.weight}.items()}
    spoilt = in_rows(normal_parts(5, 2))
    spoilt[1, 300] = bad
    optimizer.step(spoilt, torch.tensor([[1e-2], [1e-2]]))
    assert optimizer.applied.tolist() == [True, False]
    assert optimizer.updates.tolist() == [2, 1]
    for name, tensor in {**optimizer.state(), "weight": optimizer.weight}.items():
        assert torch.equal(tensor[1], before[name][1]), name
        assert not torch.equal(tensor[0], before[name][0]), name


@pytest.mark.parametrize("eight_bit", [False, True])
def test_padding_stays_zero(eight_bit):
    gradients = [in_rows(normal_parts(seed, 1)) for seed in (2, 3)]
    optimizer = steps_of_ours("stochastic", gradients, torch.tensor([1e-2]), eight_bit=eight_bit)
    trained = torch.zeros(LAYOUT.length, dtype=torch.bool)
    for segment in LAYOUT.segments(trained):
        segment.fill_(True)
    for tensor in (optimizer.weight, optimizer.moments.first, optimizer.moments.second):
        assert not tensor[0, ~trained].any()


def test_stacked_rows_round_as_they_would_alone():
    gradients = in_rows(normal_parts(2, 2))
    both = make_case("stochastic", eight_bit=True, rows=2)
    starts = {name: tensor.clone() for name, tensor in both.tensors().items()}
    rate, norms = torch.tensor([[1e-2], [2e-2]]), squared_norms(gradients)
    adamw_step(
        both.weight, gradients, both.moments, rate, both.updates, norms, hyperparameters=HYPERPARAMETERS, keys=both.keys
    )
    for row in range(2):
        alone = {name: tensor[row : row + 1].clone() for name, tensor in starts.items()}
        moments = Moments(*(alone[name] for name in ("first", "second", "first_scales", "second_scales")))
        part = slice(row, row + 1)
        adamw_step(
            alone["weight"], gradients[part], moments, rate[part], alone["updates"], norms[part],
            hyperparameters=HYPERPARAMETERS, keys=both.keys[part],
        )  # fmt: skip
        for name, tensor in both.tensors().items():
            assert torch.equal(tensor[part], alone[name]), name


def test_a_stored_state_goes_on_exactly():
    gradients = [in_rows(normal_parts(seed, 1)) for seed in range(2, 8)]
    whole = steps_of_ours("exact", gradients, torch.tensor([1e-2]), eight_bit=True)
    begun = steps_of_ours("exact", gradients[:3], torch.tensor([1e-2]), eight_bit=True)
    state = {name: tensor.clone() for name, tensor in begun.state().items()}
    case = make_case("exact")
    later = FusedAdamW(
        case.weight, remainder=case.remainder, hyperparameters=HYPERPARAMETERS, keys=KEYS[:1], eight_bit=True
    )
    later.weight.copy_(begun.weight)
    later.load_state(state)
    for gradient in gradients[3:]:
        later.step(gradient, torch.tensor([[1e-2]]))
    assert torch.equal(later.weight, whole.weight)
    assert all(torch.equal(tensor, whole.state()[name]) for name, tensor in later.state().items())
    with pytest.raises(InputError, match="resume with the settings"):
        FusedAdamW(case.weight, hyperparameters=HYPERPARAMETERS, keys=KEYS[:1]).load_state(state)


def test_the_gradient_scale_stands_for_accumulated_micro_batches():
    gradient = in_rows(normal_parts(2, 1, torch.float64))
    summed = steps_of_ours("fp64", [gradient * 4], torch.tensor([1e-2]), gradient_scale=0.25, max_norm=2.0)
    mean = steps_of_ours("fp64", [gradient], torch.tensor([1e-2]), max_norm=2.0)
    assert torch.allclose(summed.weight, mean.weight, rtol=0, atol=1e-12)
    assert torch.allclose(summed.norms, mean.norms)


def test_random_bits_are_those_of_the_stream():
    key, step = philox_key(7, "stochastic rounding"), 2**33 + 5
    words = random_words(7, "stochastic rounding", step, 512)
    halves = torch.stack([words & 0xFFFF, words >> 16], 1).flatten()
    assert torch.equal(rounding_bits(torch.tensor([key]), torch.tensor([step]), 0, 1024)[0], halves.int())
    assert torch.equal(rounding_bits(torch.tensor([key]), torch.tensor([step]), 256, 768)[0], halves[256:].int())


def test_layouts_begin_at_multiples_of_256():
    layout = row_layout([1, 256, 257])
    assert layout.offsets == (0, 256, 512)
    assert layout.length == 1024
    chunks = ScatteredGradients(layout, torch.float32, "cpu", chunk=256).chunks
    assert chunks.tolist() == [[0, 0, 0, 1], [1, 0, 256, 256], [2, 0, 512, 256], [2, 256, 768, 1]]


def test_bad_input_is_named():
    gradients = ScatteredGradients(row_layout([8]), torch.float32, "cpu")
    for bad in (torch.zeros(7), torch.zeros(8).double(), torch.zeros(16)[::2], torch.zeros(9)[1:]):
        with pytest.raises(LimnerError, match="copy the gradients into one row"):
            gradients.point_at([bad])
    norms, rate, updates = torch.ones(1), torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
    for weight, eight_bit, named in (
        (torch.zeros(1, 100), False, "multiple of 256"),
        (torch.zeros(1, 256, dtype=torch.float16), False, "bf16, fp32 or"),
        (torch.zeros(1, 256, dtype=torch.float64), True, "fp64 moments"),
        (torch.zeros(1, 256), True, "pass keys"),
        (torch.zeros(1, 256, dtype=torch.bfloat16), False, "pass keys"),
    ):
        moments = Moments.zeros(weight, eight_bit=eight_bit)
        with pytest.raises(InputError, match=named):
            adamw_step(weight, torch.zeros_like(weight), moments, rate, updates, norms, hyperparameters=HYPERPARAMETERS)
