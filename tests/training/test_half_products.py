"""Training steps with products in bf16 beside those in fp32 alone."""

from __future__ import annotations

import pytest
import torch

from limner.base import devices
from limner.training import EncodedPictures, set_up
from tests.training.sets import SUBJECT, full_run, lora_run

STEPS = 3
VARIANTS = {
    "full": lambda: [full_run(batch_size=2)],
    "stacked": lambda: [
        lora_run(batch_size=2, rank=rank, targets="transformer", learning_rate=1e-3) for rank in (1, 4)
    ],
}


def pictures():
    return EncodedPictures(torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0)))


def trained(base, runs):
    """Losses of all steps (steps, V), the weights afterwards, and the arithmetic."""
    with set_up(runs, base, SUBJECT, ["a photo of sks cat"], pictures(), None, None) as training:
        for _ in range(STEPS):
            training.work()
        losses = training.work.records[:STEPS, :, 0].clone()
        return losses, training.trainable.weights.weight.clone(), training.work.arithmetic


@pytest.fixture
def with_amx(monkeypatch):
    def turn_on():
        monkeypatch.setattr(devices, "bf16_instructions", lambda: {"amx_bf16": True})

    return turn_on


@pytest.mark.parametrize("kind", VARIANTS)
def test_losses_are_those_of_fp32_and_equal_bits_come_of_equal_calls(tiny_base, with_amx, kind):
    plain, _, arithmetic = trained(tiny_base, VARIANTS[kind]())
    assert arithmetic == "torch.float32"
    with_amx()
    losses, weights, arithmetic = trained(tiny_base, VARIANTS[kind]())
    assert arithmetic == "torch.float32, products in torch.bfloat16"
    assert not torch.equal(losses, plain)
    assert torch.allclose(losses, plain, rtol=5e-3)
    again = trained(tiny_base, VARIANTS[kind]())
    assert torch.equal(again[0], losses)
    assert torch.equal(again[1], weights)


def test_fp32_that_was_asked_for_stays_fp32(tiny_base, with_amx):
    with_amx()
    assert trained(tiny_base, [full_run(precision="fp32")])[2] == "torch.float32"


def test_only_a_processor_with_amx_multiplies_in_bf16(with_amx):
    cpu = torch.device("cpu")
    assert not devices.multiplies_in_bf16("auto", cpu)
    with_amx()
    assert devices.multiplies_in_bf16("auto", cpu)
    assert not devices.multiplies_in_bf16("fp32", cpu)
    assert not devices.multiplies_in_bf16("auto", torch.device("cuda"))
