"""Training through fused blocks and joint layers takes the steps of diffusers' and transformers' own blocks."""

from __future__ import annotations

import contextlib

import pytest
import torch

from limner.adapters import LowRankLayer
from limner.blocks.text_forms import PROJECTIONS
from limner.config import LoraVariant, expand_variants
from limner.kernels.linear import joint_view
from limner.training import set_up
from tests.stages.test_train_together import SETTINGS
from tests.training.sets import SUBJECT, full_run
from tests.training.test_loop import PROMPTS, pictures


def states(base, runs):
    with set_up(runs, base, SUBJECT, PROMPTS, pictures(0), pictures(1), None) as training:
        for _ in range(3):
            training.work()
        return [training.trainable.state(index) for index in range(len(runs))]


def ranks(*ranks):
    """Large enough for the layers' updates to lie side by side without padding between them."""
    shared = SETTINGS | {"text_encoder": True, "prior_preservation": True}
    return expand_variants([LoraVariant(**shared, rank=list(ranks))])


@pytest.mark.parametrize("runs", [ranks(32), ranks(32, 8), [full_run(text_encoder=True)]], ids=["one", "two", "full"])
def test_three_steps_are_the_same(tiny_base, monkeypatch, runs):
    from limner.training import setup

    monkeypatch.setattr(setup, "training_dtype", lambda precision, device: torch.float64)
    for module in tiny_base.modules().values():
        module.double()
    with monkeypatch.context() as unfused:
        unfused.setattr(setup, "fused", lambda *_, **__: contextlib.nullcontext())
        plain = states(tiny_base, runs)
    joint, jointly = [], LowRankLayer.jointly

    def watched(layers, x):
        joint.append(jointly(layers, x))
        return joint[-1]

    monkeypatch.setattr(LowRankLayer, "jointly", staticmethod(watched))
    for found, wanted in zip(states(tiny_base, runs), plain, strict=True):
        for name, weight in wanted.items():
            assert torch.allclose(found[name], weight, rtol=1e-9, atol=1e-10), name
    if runs[0].rank:
        assert joint
        assert all(each is not None for each in joint)


def test_keys_values_and_queries_that_learn_lie_below_one_another(tiny_base):
    """Those of the text encoder: the tiny UNet's are so small that the engine puts padding between them."""
    with set_up([full_run(text_encoder=True)], tiny_base, SUBJECT, PROMPTS, pictures(0), pictures(1), None):
        for layer in tiny_base.text_encoder.encoder.layers:
            assert joint_view([getattr(layer.self_attn, name).weight for name in PROJECTIONS]) is not None
