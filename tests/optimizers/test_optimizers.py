"""What an optimizer's settings do to a training, its parameter groups, and what the log says acted."""

from __future__ import annotations

import pytest
import torch

from limner.config import FullVariant, LoraVariant, expand_variants, stacks_of
from limner.optimizers import AdamW8bitSettings, AdamWSettings
from limner.settings.optimizer import all_optimizers
from limner.training import EncodedPictures, set_up
from limner.training.log import LOG_FILE, read_log
from limner.training.loss_scale import FIRST, LossScale
from tests.stages.training_room import Room, Speaking
from tests.training.sets import SUBJECT, full_run, lora_run

CHANGED = {  # another value of every field that matters
    "betas": (0.5, 0.6), "epsilon": 1e-2, "weight_decay": 5.0, "text_encoder_weight_decay": 5.0,
}  # fmt: skip
TELLS_APART = {"name"}


def weights_after(base, run, steps=3):
    moments = torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with set_up([run], base, SUBJECT, ["a photo of sks cat"], EncodedPictures(moments), None, None) as training:
        for _ in range(steps):
            training.work()
        return training.trainable.state()


def full(**settings):
    return full_run(**{"prior_preservation": False, "learning_rate": 1e-3} | settings)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_every_setting_reaches_the_optimizer(tiny_base, name):
    before = weights_after(tiny_base, full(optimizer=name))
    for field in all_optimizers()[name].model_fields:
        if field not in TELLS_APART:
            after = weights_after(tiny_base, full(optimizer={"name": name, field: CHANGED[field]}))
            changed = {tensor for tensor in before if not torch.equal(before[tensor], after[tensor])}
            assert changed, field
            if field == "text_encoder_weight_decay":
                once = [
                    weights_after(tiny_base, full(optimizer=o), 1)
                    for o in (name, {"name": name, field: CHANGED[field]})
                ]
                moved = [tensor for tensor in before if not torch.equal(once[0][tensor], once[1][tensor])]
                assert all(tensor.startswith("text_encoder.") for tensor in moved)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_weight_decay_shrinks_weights_as_its_equation_says(tiny_base, name):
    """One step of equal gradients: w (1 - lr wd) against w, all else the same."""
    start = weights_after(tiny_base, full(), steps=0)
    without, decayed = (
        weights_after(tiny_base, full(optimizer={"name": name, "weight_decay": decay}), steps=1)
        for decay in (0.0, 50.0)
    )
    for tensor, values in start.items():
        assert torch.allclose(without[tensor] - decayed[tensor], values * 1e-3 * 50.0, atol=1e-6), tensor


def test_the_first_beta_is_the_first_moments(tiny_base):
    """In the first step both corrections cancel; in the second the two betas weigh two gradients differently."""
    one, other = (
        weights_after(tiny_base, full(optimizer={"betas": betas}), 3) for betas in ((0.9, 0.999), (0.999, 0.9))
    )
    assert any(not torch.allclose(one[name], other[name], atol=1e-5) for name in one)
    still = weights_after(tiny_base, full(optimizer={"betas": (0.0, 0.999), "weight_decay": 0.0}), 1)
    again = weights_after(tiny_base, full(optimizer={"betas": (0.9, 0.999), "weight_decay": 0.0}), 1)
    assert all(torch.allclose(still[name], again[name], atol=1e-6) for name in still)
    settings = full(optimizer={"betas": (0.3, 0.7)}).variant.optimizer
    assert settings.betas == (0.3, 0.7)


def test_the_loss_scale_is_halved_by_an_overflow_and_doubled_after_2000_good_steps():
    scale = LossScale(2, torch.device("cpu"))
    scale.adapt(torch.tensor([False, True]))
    assert scale.scale.tolist() == [FIRST / 2, FIRST]
    for _ in range(1999):
        scale.adapt(torch.tensor([True, True]))
    assert scale.scale.tolist() == [FIRST / 2, FIRST * 2]
    scale.adapt(torch.tensor([True, False]))
    assert scale.scale.tolist() == [FIRST, FIRST]


@pytest.mark.parametrize("make", [full_run, lora_run])
def test_the_text_encoder_has_a_rate_of_its_own_which_is_logged(tiny_base, tmp_path, make):
    room = Room(tmp_path, tiny_base)
    run = make(
        steps=4, text_encoder=True, prior_preservation=False, learning_rate=1e-3, text_encoder_learning_rate=1e-5,
        warmup_steps=2, learning_rate_schedule="linear",
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        room.train(run, progress=Speaking(room.said, stop_after=2))
    room.train(run)
    shape = [0.0, 0.5, 1.0, 0.5]
    records = read_log(tmp_path / "run" / "work" / run.label / LOG_FILE)
    rates = [record.learning_rates for record in records]
    assert [rate["unet"] for rate in rates] == pytest.approx([1e-3 * part for part in shape])
    assert [rate["text_encoder"] for rate in rates] == pytest.approx([1e-5 * part for part in shape])
    assert [record.learning_rate for record in records] == [rate["unet"] for rate in rates]


def test_the_text_encoders_rate_moves_the_text_encoder_alone(tiny_base):
    one, other = (weights_after(tiny_base, full(text_encoder_learning_rate=rate), steps=1) for rate in (None, 1e-5))
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed
    assert all(name.startswith("text_encoder.") for name in changed)
    same = weights_after(tiny_base, full(text_encoder_learning_rate=1e-3), steps=1)
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_forms_of_the_table_and_stacks():
    short, table = (FullVariant(method="full", optimizer=form) for form in ("adamw8bit", {"name": "adamw8bit"}))
    assert short == table
    assert isinstance(short.optimizer, AdamW8bitSettings)
    flat = FullVariant(method="full", weight_decay=0.5, betas=(0.1, 0.2))
    assert flat.optimizer == AdamWSettings(weight_decay=0.5, betas=(0.1, 0.2))
    assert FullVariant.model_validate(flat.model_dump(mode="json")) == flat
    for strange, said in (
        ({"optimizer": "adam"}, "there are adamw, adamw8bit"),
        ({"optimizer": {"name": "adamw", "beta": 1}}, "beta"),
        ({"optimizer": {"weight_decay": 0.1}, "weight_decay": 0.2}, "stands in the variant and in its optimizer"),
        ({"text_encoder": False, "text_encoder_learning_rate": 1e-5}, "set text_encoder = true"),
    ):
        with pytest.raises(ValueError, match=said):
            FullVariant(method="full", **strange)
    rates = [None, 1e-5]
    runs = expand_variants(
        [
            LoraVariant(method="lora", name=f"r{i}", text_encoder=True, text_encoder_learning_rate=r)
            for i, r in enumerate(rates)
        ]
    )
    assert len(stacks_of(runs)) == 1
    eight = expand_variants([LoraVariant(method="lora", rank=[2, 4], optimizer="adamw8bit")])
    assert len(stacks_of(eight)) == 2
