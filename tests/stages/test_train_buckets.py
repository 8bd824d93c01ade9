"""Trainings on photos of several shapes: alone, together, interrupted, with class images."""

from __future__ import annotations

import pytest
import torch

from limner.adapters import load_trained
from limner.config import expand_variants
from limner.errors import InputError
from limner.training import EncodedPictures, set_up
from limner.training.bucket_schedule import bucket_schedule
from limner.training.step import Step
from tests.stages.test_train_together import mixed_runs, sweep
from tests.stages.training_room import EVERYTHING, Room, Speaking, same, same_adapter, snapshot
from tests.training.sets import SUBJECT, full_run, lora_run, write_class_set, write_photo_set
from tests.training.test_buckets import PROMPTS, buckets

SQUARE, WIDE, TALL = (64, 64), (128, 64), (64, 128)
EVERYTHING_LONGER = EVERYTHING | {"steps": 5}


@pytest.fixture
def room(tmp_path, tiny_base):
    room = Room(tmp_path, tiny_base)
    room.photo_set = write_photo_set(tmp_path / "shapes", sizes=[WIDE, SQUARE, TALL, WIDE, SQUARE])
    room.class_set = write_class_set(tmp_path / "class shapes", sizes=[SQUARE, WIDE, TALL, SQUARE])
    return room


@pytest.mark.parametrize("run", [
    full_run(prior_preservation=True, steps=4), full_run(precision="bf16", batch_size=2), lora_run(flip=True, steps=5),
    lora_run(text_encoder=True, targets="all", prior_preservation=True, gradient_checkpointing=True),
], ids=["full", "full-bf16", "lora", "lora-all"])  # fmt: skip
def test_what_is_trained_moves_and_the_base_is_as_it_was(room, run):
    before = snapshot(room.base)
    made = room.train(run)
    assert same(snapshot(room.base), before)
    assert [row.step for row in made.record.log] == [*range(1, run.variant.steps + 1)]
    adapter = load_trained(made)
    assert set(adapter.full or adapter.low_rank) >= {"unet"}
    for updates in adapter.low_rank.values():
        assert sum(bool(update.up.abs().max() > 1e-3) for update in updates.values()) > 0.8 * len(updates)


def test_stacked_steps_are_those_of_separate_runs_in_fp64(tiny_base, monkeypatch):
    from limner.training import setup

    monkeypatch.setattr(setup, "training_dtype", lambda precision, device: torch.float64)
    for module in (tiny_base.unet, tiny_base.text_encoder):
        module.double()
    runs = mixed_runs(text_encoder=True, prior_preservation=True, batch_size=2, steps=6)

    def states(of):
        with set_up(of, tiny_base, SUBJECT, PROMPTS, buckets(2, 2, 1), buckets(1, 2, 1, seed=1), None) as training:
            for step in range(6):
                training.work(training.work.bucket_of(step))
            assert len(set(training.work.schedule.buckets)) == 3
            return [training.trainable.state(index) for index in range(len(of))]

    together = states(runs)
    for index, run in enumerate(runs):
        (alone,) = states([run])
        for name, weight in alone.items():
            assert weight.dtype == torch.float64
            assert torch.allclose(weight, together[index][name], rtol=1e-9, atol=1e-11), name


@pytest.mark.parametrize("runs", [
    [full_run(**EVERYTHING_LONGER)], sweep(**EVERYTHING_LONGER),
], ids=["full", "stack"])  # fmt: skip
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(room, runs):
    whole = room.train_together(runs, name="whole")
    for stop_after in (1, 3, 4):
        name = f"stopped-{stop_after}"
        with pytest.raises(KeyboardInterrupt):
            room.train_together(runs, name=name, progress=Speaking(room.said, stop_after))
        resumed = room.train_together(runs, name=name)
        assert all(same_adapter(*pair) for pair in zip(resumed, whole, strict=True))


def test_every_step_is_of_the_bucket_whose_turn_it_is_after_an_interruption_too(room, monkeypatch):
    taken, collect = [], Step.collect

    def noted(step, bucket=0):
        taken.append((int(step.number), bucket, tuple(step.draws[bucket].sources[0].moments.shape[2:])))
        return collect(step, bucket)

    monkeypatch.setattr(Step, "collect", noted)
    run = lora_run(steps=8)
    with pytest.raises(KeyboardInterrupt):
        room.train(run, progress=Speaking(room.said, 3))
    room.train(run)
    shapes = [(8, 8), (16, 8), (8, 16)]  # of latents of two squares, one tall photo, two wide ones
    turns = bucket_schedule([2, 1, 2], 8).buckets
    assert taken == [(number, bucket, shapes[bucket]) for number, bucket in enumerate(turns)]


def test_the_training_seed_changes_neither_the_buckets_nor_what_else_is_trained(tiny_base):
    orders = []
    for run in (lora_run(steps=20), *expand_variants([lora_run(steps=20, training_seeds=[7]).variant])):
        with set_up([run], tiny_base, SUBJECT, PROMPTS[:1], buckets(2, 1, 1), None, None) as training:
            orders.append(training.work.schedule)
    assert orders[0] == orders[1]


def test_a_shape_without_class_images_is_named_before_anything_is_loaded(room, tmp_path):
    class_set = write_class_set(tmp_path / "squares", sizes=[SQUARE, WIDE])
    with pytest.raises(InputError, match="photos of 64x128 px and no class image of that size"):
        room.train(full_run(prior_preservation=True), class_set=class_set)
    assert room.loaded == 0


def test_class_images_without_sizes_are_refused_by_name(room, tmp_path):
    class_set = write_class_set(tmp_path / "squares", count=2)
    with pytest.raises(InputError, match=r"0000\.png is 64x64 px and the study trains at 64x128"):
        room.train(full_run(prior_preservation=True), class_set=class_set)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_captured_steps_of_all_buckets_are_those_taken_one_by_one(tiny_folder, method):
    from limner.base import find_base, load_base
    from limner.progress import SILENT
    from limner.training.captured import CapturedStep, captured

    base = load_base(find_base(str(tiny_folder)), device=torch.device("cuda"))
    make = {"full": full_run, "lora": lora_run}[method]
    run = make(steps=12, learning_rate=1e-4, prior_preservation=True, text_encoder=True, precision="fp32")
    groups = buckets(2, 2, 1), buckets(1, 2, 1, seed=1)
    on_device = [[EncodedPictures(part.moments.cuda()) for part in group] for group in groups]
    states = []
    for capture in (False, True):
        with set_up([run], base, SUBJECT, PROMPTS, *on_device, None) as training:
            take = captured(training.work, "test", SILENT) if capture else training.work
            assert isinstance(take, CapturedStep) == capture
            for step in range(12):
                take(training.work.bucket_of(step))
            assert training.work.number.item() == 12
            states.append(training.trainable.state())
    for name, weight in states[0].items():
        assert torch.allclose(weight, states[1][name], rtol=1e-4, atol=2e-5), name
