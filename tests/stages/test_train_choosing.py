"""The train stage with a rule: which step is delivered, whatever happens on the way."""

from __future__ import annotations

import json

import pytest
import torch

from limner.adapters import load_trained
from limner.records import ValidationRecord
from limner.stages.context import Context
from limner.stages.train import TrainingRequest, train
from tests.recorded import hold_out
from tests.stages.test_train_together import sweep
from tests.stages.training_room import EVERYTHING, Room, Speaking, same, same_adapter, snapshot
from tests.training.sets import SUBJECT, full_run, lora_run, write_photo_set

BEST = {"every_steps": 1, "keep": "best", "neighbours": 0}


@pytest.fixture
def room(tmp_path, tiny_base):
    """Six photos, two of them held out."""
    made = Room(tmp_path, tiny_base)
    photos = write_photo_set(tmp_path / "more", count=6)
    made.photo_set = hold_out(photos, 2)
    return made


def best_at(*steps, copies=()):
    """A validation in which each of these steps is better than all before."""

    def validate(step):
        share = 0.1 * (1 + steps.index(step)) if step in steps else 0.0
        shares = {"likeness_share": share, "fidelity_share": 1.0, "copying_share": float(step in copies)}
        return ValidationRecord(step=step, **shares)

    return validate


def train_each(room, runs, validations, name, **options):
    place = room.folder / name
    orders = [
        TrainingRequest(run, place / "adapters" / run.label, place / "work" / run.label, validate)
        for run, validate in zip(runs, validations, strict=True)
    ]
    context = Context(SUBJECT, room.load, "base-hash", progress=options.pop("progress", Speaking(room.said)))
    return train(orders, context, room.photo_set, room.class_set, None, **options)


@pytest.mark.parametrize("make", [full_run, lora_run])
@pytest.mark.parametrize("ema", [None, 0.6])
def test_the_best_step_is_delivered_as_a_training_of_that_many_steps_delivers_it(room, make, ema):
    run = make(steps=5, ema_decay=ema, validation=BEST)
    made = room.train(run, name="chosen", validate=best_at(1, 3))
    short = room.train(make(steps=3, ema_decay=ema), name="short")
    assert same_adapter(made, short)
    chosen = made.record.chosen
    assert (chosen.step, chosen.stopped_at) == (3, None)
    assert "within the copying limit" in chosen.why
    assert [row.step for row in made.record.validation] == [1, 2, 3, 4, 5]
    assert not list((room.folder / "chosen" / "work").glob("*/kept-*"))


def test_a_step_that_copies_is_passed_over(room):
    run = lora_run(steps=4, validation=BEST)
    assert room.train(run, validate=best_at(2, 3, copies={3})).record.chosen.step == 2


@pytest.mark.parametrize("make", [full_run, lora_run])
def test_scoring_changes_no_bit_of_what_is_trained(room, make):
    watched = make(**(EVERYTHING | {"validation": {"every_steps": 1, "score": True}}))
    before = snapshot(room.base)
    made = room.train(watched, name="watched", validate=best_at(1))
    assert same(snapshot(room.base), before)
    plain = room.train(make(**EVERYTHING), name="plain")
    assert same_adapter(made, plain)
    assert made.manifest.key == plain.manifest.key
    assert made.record.chosen is None
    losses = [row.validation_loss for row in made.record.validation]
    assert all(0 < loss < 10 for loss in losses)
    assert len(set(losses)) == 3  # the weights move, the noise does not


def test_the_held_out_loss_of_equal_weights_is_equal_at_every_step(room):
    run = lora_run(steps=3, learning_rate=1e-30, validation={"every_steps": 1, "score": True})
    rows = room.train(run, validate=best_at(1)).record.validation
    assert rows[0].validation_loss == rows[1].validation_loss == rows[2].validation_loss


def test_a_stack_chooses_for_each_variant_and_stops_when_all_have_stopped(room):
    runs = sweep(steps=8, validation=BEST | {"patience": 2}, training_seeds=[0])
    validations = [best_at(1), best_at(2, 4)]
    made = train_each(room, runs, validations, "stack")
    chosen = [folder.record.chosen for folder in made]
    assert [(one.step, one.stopped_at) for one in chosen] == [(1, 3), (4, 6)]
    assert [row.step for row in made[0].record.validation] == [1, 2, 3]
    assert [row.step for row in made[0].record.log] == [1, 2, 3, 4, 5, 6]
    assert any("stopped early after step 6 of 8" in line for line in room.said)
    for run, validate, folder in zip(runs, validations, made, strict=True):
        (alone,) = train_each(room, [run], [validate], "alone")
        assert alone.record.chosen == folder.record.chosen
        for name, update in load_trained(alone).low_rank["unet"].items():
            assert torch.allclose(update.up, load_trained(folder).low_rank["unet"][name].up, atol=1e-3)


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_stopped_anywhere_the_same_step_is_delivered_to_the_byte(room, stop_after, neighbours):
    validation = BEST | {"neighbours": neighbours, "every_steps": 2}
    run = lora_run(**(EVERYTHING | {"steps": 5, "checkpoint_every_steps": 2, "validation": validation}))
    whole = room.train(run, name="whole", validate=best_at(2))
    with pytest.raises(KeyboardInterrupt):
        room.train(run, name="stopped", validate=best_at(2), progress=Speaking(room.said, stop_after))
    resumed = room.train(run, name="stopped", validate=best_at(2))
    assert same_adapter(resumed, whole)
    assert resumed.record.chosen == whole.record.chosen
    assert resumed.record.validation == whole.record.validation
    assert [row.step for row in whole.record.validation] == [2, 4, 5]


def test_a_validation_that_an_interruption_cut_off_is_made_up_for(room):
    run = lora_run(steps=4, validation=BEST)
    cut_off = []

    def validate(step):
        if step == 2 and not cut_off:
            cut_off.append(step)
            raise KeyboardInterrupt
        return best_at(2)(step)

    with pytest.raises(KeyboardInterrupt):
        room.train(run, validate=validate)
    made = room.train(run, validate=validate)
    assert [row.step for row in made.record.validation] == [1, 2, 3, 4]
    assert made.record.chosen.step == 2


def test_the_rule_and_what_it_judges_by_name_the_result_and_pictures_do_not(room):
    plain = room.train(lora_run(), name="plain").manifest.key
    pictures = room.train(lora_run(validation={"every_steps": 1}), name="pictures", validate=lambda step: None)
    assert pictures.manifest.key == plain
    assert pictures.record.chosen is None
    keys = [
        room.train(lora_run(validation=BEST | own), name=f"best-{n}", validate=best_at(1)).manifest.key
        for n, own in enumerate([{}, {"likeness_weight": 0.3}])
    ]
    assert len({plain, *keys}) == 3


def test_only_what_can_still_be_chosen_takes_room(room):
    seen = []
    work = room.folder / "run" / "work" / "lora-2"

    def validate(step):
        seen.append(len(list(work.glob("kept-*"))))
        return best_at(1, 2, 3)(step)

    room.train(lora_run(steps=6, validation=BEST), validate=validate)
    assert seen == [0, 1, 1, 1, 1, 1]
    assert json.loads((work / "validation.json").read_text())["records"][2]["likeness_share"] == pytest.approx(0.3)
