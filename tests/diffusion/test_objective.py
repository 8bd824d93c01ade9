"""The objective against the published formula, computed number by number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from limner.diffusion.objective import (
    example_weights,
    min_snr_weights,
    offset_noise,
    squared_errors,
    weighted_loss,
)


def formula(predictions, targets, is_class, prior_loss_weight, weights):
    """Equation 2 in plain Python floats: sums over examples and values, one mean a group."""
    sums, counts = [0.0, 0.0], [0, 0]
    for prediction, wanted, of_class, weight in zip(predictions, targets, is_class, weights, strict=True):
        values = list(zip(prediction.flatten().tolist(), wanted.flatten().tolist(), strict=True))
        sums[of_class] += weight * sum((p - t) ** 2 for p, t in values) / len(values)
        counts[of_class] += 1
    means = [total / count if count else 0.0 for total, count in zip(sums, counts, strict=True)]
    return means[0] + prior_loss_weight * means[1]


@settings(max_examples=30, deadline=None)
@given(
    is_class=st.lists(st.booleans(), min_size=1, max_size=6),
    prior_loss_weight=st.floats(0, 4),
    gamma=st.one_of(st.none(), st.floats(0.5, 20)),
    prediction_type=st.sampled_from(["epsilon", "v_prediction"]),
    seed=st.integers(0, 1000),
)
def test_loss_and_gradients_equal_the_formula(is_class, prior_loss_weight, gamma, prediction_type, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(is_class), 2, 3, 3)
    prediction = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    wanted = torch.randn(shape, dtype=torch.float64, generator=generator)
    ratios = torch.rand(len(is_class), dtype=torch.float64, generator=generator) * 30 + 1e-3
    each = [1.0] * len(is_class)
    if gamma is not None:
        divisor = 1.0 if prediction_type == "v_prediction" else 0.0
        each = [min(ratio, gamma) / (ratio + divisor) for ratio in ratios.tolist()]

    weights = example_weights(torch.tensor(is_class), prior_loss_weight).double()
    if gamma is not None:
        weights = weights * min_snr_weights(ratios, gamma, prediction_type)
    loss = weighted_loss(squared_errors(prediction, wanted), weights)
    assert loss.item() == pytest.approx(formula(prediction, wanted, is_class, prior_loss_weight, each), rel=1e-6)

    loss.backward()
    counts = [is_class.count(False), is_class.count(True)]
    for index, of_class in enumerate(is_class):  # dL/dp = 2 (p - t) · weight / (values · group size)
        factor = (prior_loss_weight if of_class else 1.0) * each[index] / counts[of_class]
        by_hand = 2 * (prediction[index] - wanted[index]).detach() * factor / wanted[index].numel()
        assert torch.allclose(prediction.grad[index], by_hand, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("prior_loss_weight", [1.0, 0.3])
def test_it_is_the_official_scripts_sum_of_two_means(prior_loss_weight):
    torch.manual_seed(0)
    prediction, wanted = torch.randn(2, 6, 4, 8, 8, dtype=torch.float64)
    instance, prior = (functional.mse_loss(prediction[rows], wanted[rows]) for rows in (slice(3), slice(3, 6)))
    weights = example_weights(torch.tensor([False] * 3 + [True] * 3), prior_loss_weight).double()
    ours = weighted_loss(squared_errors(prediction, wanted), weights)
    assert torch.allclose(ours, instance + prior_loss_weight * prior, rtol=1e-6)


def test_an_examples_place_in_the_batch_means_nothing():
    torch.manual_seed(0)
    prediction, wanted = torch.randn(2, 4, 4, 8, 8, dtype=torch.float64)
    is_class, ratios = torch.tensor([False, False, True, True]), torch.tensor([0.1, 3.0, 9.0, 40.0]).double()
    order = torch.tensor([2, 0, 3, 1])

    def loss(rows):
        weights = example_weights(is_class[rows], 0.5) * min_snr_weights(ratios[rows], 5.0, "epsilon")
        return weighted_loss(squared_errors(prediction[rows], wanted[rows]), weights)

    assert torch.allclose(loss(order), loss(torch.arange(4)))


def test_gradients_pass_gradcheck():
    torch.manual_seed(0)
    prediction = torch.randn(3, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    weights = example_weights(torch.tensor([False, True, True]), 0.7).double()
    assert torch.autograd.gradcheck(lambda p: weighted_loss(squared_errors(p, wanted), weights), prediction)


def test_half_precision_predictions_are_compared_in_fp32():
    prediction, wanted = torch.full((1, 1, 1, 1), 300.0, dtype=torch.float16), torch.zeros(1, 1, 1, 1)
    assert squared_errors(prediction, wanted).item() == 90_000  # beyond fp16's range


def test_min_snr_stays_finite_without_signal_and_without_noise():
    for prediction_type in ("epsilon", "v_prediction"):
        weights = min_snr_weights(torch.tensor([0.0, 1e6]), 5.0, prediction_type)
        assert torch.isfinite(weights).all()
    assert min_snr_weights(torch.tensor([0.0]), 5.0, "epsilon").item() == 1.0


def test_offset_noise_moves_whole_channels():
    noise = torch.zeros(2, 4, 3, 3)
    moved = offset_noise(noise, torch.arange(8.0).reshape(2, 4), 0.1)
    assert torch.allclose(moved, (torch.arange(8.0) * 0.1).reshape(2, 4, 1, 1).expand(2, 4, 3, 3))
