"""An optimizer of one file: momentum, written and registered here alone, trains, stacks, is interrupted and resumed."""

from __future__ import annotations

from typing import ClassVar, Literal

import pytest
import torch

from limner.optimizers import FlatOptimizer, OptimizerSettings, registered_optimizer
from tests.stages.training_room import Room, Speaking, same_adapter
from tests.training.sets import full_run, lora_run


class MomentumSettings(OptimizerSettings):
    """Plain gradient descent with momentum."""

    bytes_per_number: ClassVar[float] = 4.0

    name: Literal["momentum"] = "momentum"
    """"momentum"."""
    momentum: float = 0.9
    """Share of the last update that is kept."""

    def build(self, trainable, groups, seeds, *, max_norm, gradient_scale):
        return Momentum(trainable, groups, self.momentum, gradient_scale)


class Momentum(FlatOptimizer):
    """v = momentum v + gradient; w = w - rate v; a row without finite gradients stays as it is."""

    def __init__(self, trainable, groups, momentum, gradient_scale):
        super().__init__(trainable)
        self.groups, self.momentum, self.gradient_scale = groups, momentum, gradient_scale
        self.velocity = torch.zeros_like(trainable.weights.weight)

    def step(self, learning_rates):
        gradients = self.gradient_rows().to(self.velocity.dtype) * self.gradient_scale
        applied = gradients.isfinite().all(1)  # (V,)
        velocity = self.momentum * self.velocity + gradients
        self.velocity.copy_(torch.where(applied[:, None], velocity, self.velocity))
        weights = self.trainable.weights
        for column, group in enumerate(self.groups):
            for name in group.tensors:
                segment = weights.segments[name]
                part = slice(segment.offset, segment.offset + segment.padded)
                step = learning_rates[:, column : column + 1].to(velocity.dtype) * self.velocity[:, part]
                weights.weight[:, part] -= torch.where(applied[:, None], step, 0)
        return applied

    def rehearse(self):
        self.gradient_rows()

    def numbers(self):
        return {"velocity": self.velocity}

    def counters(self):
        return {}


@pytest.fixture(autouse=True)
def _known():
    with registered_optimizer(MomentumSettings):
        yield


MOMENTUM = {"name": "momentum", "momentum": 0.8}
SHARED = {"steps": 4, "optimizer": MOMENTUM, "text_encoder": True, "learning_rate": 1e-2}


def runs_of(kind):
    if kind == "full":
        return [full_run(**SHARED, text_encoder_learning_rate=1e-3)]
    return [
        lora_run(**SHARED, rank=[2], name="a"),
        lora_run(**SHARED, rank=[4], name="b", learning_rate_schedule="linear"),
    ]


@pytest.mark.parametrize("kind", ["full", "stack"])
def test_it_trains_and_resumes_to_the_same_bytes(tiny_base, tmp_path, kind):
    room = Room(tmp_path, tiny_base)
    whole = room.train_together(runs_of(kind), name="whole")
    with pytest.raises(KeyboardInterrupt):
        room.train_together(runs_of(kind), name="interrupted", progress=Speaking(room.said, stop_after=2))
    resumed = room.train_together(runs_of(kind), name="interrupted")
    assert all(same_adapter(*pair) for pair in zip(whole, resumed, strict=True))
    assert any("after step 2" in line for line in room.said)
    by_default = room.train_together([full_run(steps=4)] if kind == "full" else [lora_run(steps=4)], name="default")
    assert not same_adapter(whole[0], by_default[0])


def test_its_settings_reach_it(tiny_base, tmp_path):
    room = Room(tmp_path, tiny_base)
    results = [
        room.train(lora_run(steps=3, optimizer={"name": "momentum", "momentum": value}), name=f"at {value}")
        for value in (0.0, 0.9)
    ]
    assert not same_adapter(*results)
