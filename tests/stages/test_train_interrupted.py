"""The train stage after an interruption: a signal, a crash, other settings, numbers that are none."""

from __future__ import annotations

import signal

import pytest
import torch

from limner.adapters import load_trained
from limner.errors import LimnerError
from limner.training.checkpoint import step_folders
from tests.stages.training_room import EVERYTHING, Room, Speaking, same, same_adapter, snapshot
from tests.training.sets import full_run, lora_run


class Stopped(Exception):
    """Ends a training from within, as a crash would."""


@pytest.fixture
def room(tmp_path, tiny_base):
    return Room(tmp_path, tiny_base)


@pytest.mark.parametrize("make", [full_run, lora_run])
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(room, make):
    run = make(**EVERYTHING)
    before, whole = snapshot(room.base), room.train(run, name="whole")
    for stop_after in (1, 2):
        name = f"stopped-{stop_after}"
        with pytest.raises(KeyboardInterrupt):
            room.train(run, name=name, progress=Speaking(room.said, stop_after))
        assert same(snapshot(room.base), before)
        assert f"stopped after step {stop_after} of 3" in room.said[-1]
        assert not (room.folder / name / "adapters" / run.label).exists()
        resumed = room.train(run, name=name)
        assert f"continuing after step {stop_after} of 3" in room.said[-1]
        assert same_adapter(resumed, whole)
        kept, wanted = ([row.loss for row in made.record.log] for made in (resumed, whole))
        assert kept == wanted
        assert step_folders(room.folder / name / "work" / run.label) == []


def test_ctrl_c_finishes_the_step_it_falls_into(room, monkeypatch):
    run = lora_run(**EVERYTHING)
    calls = 0
    forward = room.base.unet.forward

    def interrupted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 4:  # the second micro-batch of the second step
            signal.raise_signal(signal.SIGINT)
        return forward(*arguments, **options)

    monkeypatch.setattr(room.base.unet, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        room.train(run, name="stopped")
    monkeypatch.undo()
    assert [folder.name for folder in step_folders(room.folder / "stopped/work" / run.label)] == ["step-2"]
    assert same_adapter(room.train(run, name="stopped"), room.train(run, name="whole"))


def test_after_a_crash_it_goes_on_from_the_last_checkpoint_that_is_whole(room):
    run = lora_run(**(EVERYTHING | {"steps": 4, "checkpoint_every_steps": 1, "validation": {"every_steps": 1}}))

    def crash(step):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        room.train(run, name="crashed", validate=crash)
    work = room.folder / "crashed" / "work" / run.label
    assert [folder.name for folder in step_folders(work)] == ["step-2", "step-3"]
    (work / "step-3" / "trained.safetensors").write_bytes(b"cut off")
    resumed = room.train(run, name="crashed")
    assert any("step-3 is damaged" in line for line in room.said)
    assert any("continuing after step 2" in line for line in room.said)
    assert same_adapter(resumed, room.train(run, name="whole"))


def test_other_settings_begin_anew(room):
    with pytest.raises(KeyboardInterrupt):
        room.train(lora_run(), progress=Speaking(room.said, 2))
    room.said.clear()
    changed = room.train(lora_run(learning_rate=2e-2))
    assert room.said == []
    assert [row.step for row in changed.record.log] == [1, 2, 3]
    assert same_adapter(changed, room.train(lora_run(learning_rate=2e-2), name="fresh"))


def test_a_loss_that_is_no_number_is_skipped_three_times_then_ends_the_training(room, monkeypatch):
    from limner.training import step as steps

    errors = steps.squared_errors
    bad = {2, 3, 4}
    calls = 0

    def sometimes_nan(prediction, target):
        nonlocal calls
        calls += 1
        return errors(prediction, target) * (float("nan") if calls in bad else 1.0)

    monkeypatch.setattr(steps, "squared_errors", sometimes_nan)
    made = room.train(lora_run(steps=6), name="three")
    assert [row.step for row in made.record.log] == [1, 5, 6]
    assert sum("was skipped" in line for line in room.said) == 3
    assert all(torch.isfinite(u.up).all() for u in load_trained(made).low_rank["unet"].values())

    calls, bad = 0, set(range(3, 99))
    before = snapshot(room.base)
    with pytest.raises(LimnerError, match="not finite in 4 steps in a row, up to step 6"):
        room.train(lora_run(steps=20, checkpoint_every_steps=2), name="four")
    assert same(snapshot(room.base), before)
    left = [folder.name for folder in step_folders(room.folder / "four" / "work" / "lora-2")]
    assert left == ["step-2", "step-4"]
