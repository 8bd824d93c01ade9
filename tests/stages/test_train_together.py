"""Variants trained in one pass: each comes out as if it had been trained alone."""

from __future__ import annotations

import pytest
import torch

from limner.adapters import load_trained
from limner.config import FullVariant, LoraVariant, expand_variants, stacks_of
from limner.errors import LimnerError
from limner.training import set_up
from limner.training.checkpoint import step_folders
from tests.stages.training_room import EVERYTHING, Room, Speaking, same, same_adapter, snapshot
from tests.training.sets import SUBJECT
from tests.training.test_loop import PROMPTS, pictures

SETTINGS = {"method": "lora", "steps": 3, "learning_rate": 1e-2, "checkpoint_every_steps": 0}


@pytest.fixture
def room(tmp_path, tiny_base):
    return Room(tmp_path, tiny_base)


def sweep(**settings):
    """Runs of ranks and seeds that can be trained in one pass."""
    return expand_variants([LoraVariant(**(SETTINGS | {"rank": [1, 3], "training_seeds": [0, 7]} | settings))])


def mixed_runs(**settings):
    """Three runs that differ in everything that a stack may differ in."""
    own = [
        {"name": "small", "rank": 1, "learning_rate": 2e-2, "learning_rate_schedule": "cosine"},
        {"name": "large", "rank": 4, "alpha": 1.0, "warmup_steps": 1},
        {"name": "other", "rank": 2, "training_seeds": [5], "alpha_rule": "sqrt"},
    ]
    return expand_variants([LoraVariant(**(SETTINGS | settings | each)) for each in own])


def state_after_three_steps(base, runs, of_class):
    with set_up(runs, base, SUBJECT, PROMPTS, pictures(0), of_class, None) as training:
        for _ in range(3):
            training.work()
        losses = training.work.read(0, 3)
        return [training.trainable.state(index) for index in range(len(runs))], losses


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_three_stacked_steps_are_those_of_separate_runs_in_fp64(tiny_base, monkeypatch, targets):
    from limner.training import setup

    monkeypatch.setattr(setup, "training_dtype", lambda precision, device: torch.float64)
    for module in (tiny_base.unet, tiny_base.text_encoder):
        module.double()
    runs = mixed_runs(text_encoder=True, targets=targets, prior_preservation=True, snr_gamma=2.0, batch_size=2)
    assert stacks_of(runs) == [runs]
    together, losses = state_after_three_steps(tiny_base, runs, pictures(1))
    for index, run in enumerate(runs):
        (alone,), own_losses = state_after_three_steps(tiny_base, [run], pictures(1))
        for name, weight in alone.items():
            assert weight.dtype == torch.float64
            assert weight.shape == together[index][name].shape
            assert torch.allclose(weight, together[index][name], rtol=1e-9, atol=1e-11), name
        for step, (row,) in enumerate(own_losses):
            assert row == pytest.approx(losses[step][index], rel=1e-6)


def test_ranks_and_seeds_trained_together_give_the_adapters_of_separate_calls(room):
    runs = sweep()
    assert len(runs) == 4
    together = room.train_together(runs, name="together")
    assert room.loaded == 1
    for run, made in zip(runs, together, strict=True):
        alone = room.train(run, name="alone")
        assert made.record.trainable_parameters == alone.record.trainable_parameters
        assert [row.loss for row in made.record.log] == pytest.approx([row.loss for row in alone.record.log], rel=1e-4)
        first, second = load_trained(made).low_rank["unet"], load_trained(alone).low_rank["unet"]
        for name, update in first.items():
            assert (update.rank, update.alpha) == (run.rank, run.method.resolved(run)["alpha"])
            assert torch.allclose(update.up, second[name].up, atol=1e-3)
            assert torch.allclose(update.down, second[name].down, atol=1e-3)


def test_a_stack_stopped_at_any_step_goes_on_to_the_same_bytes(room):
    runs = sweep(**EVERYTHING)
    before, whole = snapshot(room.base), room.train_together(runs, name="whole")
    for stop_after in (1, 2):
        name = f"stopped-{stop_after}"
        with pytest.raises(KeyboardInterrupt):
            room.train_together(runs, name=name, progress=Speaking(room.said, stop_after))
        assert same(snapshot(room.base), before)
        resumed = room.train_together(runs, name=name)
        assert all(same_adapter(*pair) for pair in zip(resumed, whole, strict=True))


def test_what_is_added_to_a_sweep_is_trained_and_the_rest_is_kept(room):
    first = room.train_together(sweep(rank=[1]))
    made = room.train_together(sweep(rank=[1, 3]))
    assert [same_adapter(*pair) for pair in zip(made[:2], first, strict=True)] == [True, True]
    assert made[2].record.method_record["rank"] == 3
    assert made[2].manifest.made.trained_with == ["lora-3@7"]


def test_where_not_all_have_room_at_once_equal_chunks_are_trained(room):
    made = room.train_together(sweep(), at_once=3)
    labels = ["lora-1@0", "lora-1@7", "lora-3@0", "lora-3@7"]
    assert [folder.label for folder in made] == labels
    company = [folder.manifest.made.trained_with for folder in made]
    assert company == [[labels[1]], [labels[0]], [labels[3]], [labels[2]]]


def test_states_of_another_company_are_gone_on_with(room):
    """The moments of a rank trained beside a larger one were padded; they fit when it goes on without it."""
    runs = sweep(steps=4)
    with pytest.raises(KeyboardInterrupt):
        room.train_together(runs, progress=Speaking(room.said, 2))
    room.train_together(runs[:2])
    assert any("lora-1@0: continuing after step 2 of 4" in line for line in room.said)
    assert [row.step for row in room.train(runs[0]).record.log] == [1, 2, 3, 4]


def test_one_variant_that_learns_nothing_more_does_not_take_the_others_with_it(room):
    runs = mixed_runs(steps=6, checkpoint_every_steps=2)
    hot = runs[0].variant.model_copy(update={"learning_rate": 1e38, "learning_rate_schedule": "constant"})
    runs[0] = expand_variants([hot])[0]
    with pytest.raises(LimnerError, match="small: the loss was not finite in 4 steps in a row, up to step 5"):
        room.train_together(runs)
    made = [room.folder / "run" / "adapters" / run.label for run in runs]
    assert [folder.exists() for folder in made] == [False, True, True]
    assert step_folders(room.folder / "run" / "work" / "small")


def test_what_must_not_be_stacked_is_not():
    full = FullVariant(method="full", training_seeds=[0, 1])
    apart = [
        LoraVariant(**SETTINGS, rank=[2, 4]),
        LoraVariant(**(SETTINGS | {"name": "long", "steps": 4}), rank=2),
        LoraVariant(**SETTINGS, name="on top", start_from="full", rank=2),
        LoraVariant(**SETTINGS, name="eight", optimizer="adamw8bit", rank=[2, 4]),
    ]
    stacks = [[run.label for run in stack] for stack in stacks_of(expand_variants([full, *apart]))]
    assert stacks == [
        ["full@0"], ["full@1"], ["lora-2", "lora-4"], ["long"], ["on top"], ["eight-lora-2"], ["eight-lora-4"],
    ]  # fmt: skip


def small_gpu(monkeypatch, fits):
    """Let training run out of memory unless `fits(variants, examples at once)`."""
    import limner.stages.train as stage

    take_steps = stage.take_steps

    def limited(training, places, **options):
        if not fits(len(places), training.work.draws[0].drawing.batch_size):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        take_steps(training, places, **options)

    monkeypatch.setattr(stage, "take_steps", limited)


def test_a_sweep_too_large_for_the_memory_is_trained_in_halves(room, monkeypatch):
    runs = sweep()
    whole = room.train_together(runs, name="whole")
    small_gpu(monkeypatch, lambda variants, examples: variants <= 2)
    halves = room.train_together(runs, name="halves")
    assert [made.manifest.made.trained_with for made in halves] == [
        [r] for r in ("lora-1@7", "lora-1@0", "lora-3@7", "lora-3@0")
    ]
    assert any("too small for 4 variants at once" in line for line in room.said)
    for one, other in zip(halves, whole, strict=True):
        for name, update in load_trained(one).low_rank["unet"].items():
            assert torch.allclose(update.up, load_trained(other).low_rank["unet"][name].up, atol=1e-3)


def test_a_batch_too_large_for_the_memory_is_taken_in_parts_of_the_same_step(room, monkeypatch):
    (run,) = expand_variants([LoraVariant(**SETTINGS, rank=2, batch_size=4, snr_gamma=5.0)])
    whole = room.train(run, name="whole")
    small_gpu(monkeypatch, lambda variants, examples: examples <= 2)
    parts = room.train(run, name="parts")
    assert any("the same batch is computed in 2 micro-batches" in line for line in room.said)
    assert [row.loss for row in parts.record.log] == pytest.approx([r.loss for r in whole.record.log], rel=1e-5)
    small_gpu(monkeypatch, lambda variants, examples: False)
    with pytest.raises(LimnerError, match="too little memory for 1 picture"):
        room.train(run, name="none")
