"""Learning-rate schedules, moving average, optimizer, log, checkpoints and prompts, each by itself."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from limner.errors import InputError, NotFiniteError, PromptError
from limner.kernels.flat_weights import FlatWeights
from limner.records import StepRecord
from limner.training.checkpoint import Checkpoint, newest_checkpoint, step_folders, write_checkpoint
from limner.training.ema import ExponentialMovingAverage
from limner.training.learning_rate_schedule import learning_rate_at
from limner.training.log import LOG_FILE, TrainingLog, read_log, thinned
from limner.training.prompts import PromptEmbeds, prompt_ids
from tests.training.sets import SUBJECT


class Notices:
    """Keeps what a stage says."""

    def __init__(self):
        self.lines = []

    def notice(self, message):
        self.lines.append(message)


@pytest.mark.parametrize("warmup_steps", [0, 4])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_are_diffusers(schedule, warmup_steps):
    from diffusers.optimization import get_scheduler

    name = "constant_with_warmup" if schedule == "constant" else schedule
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=20)
    for step in range(20):
        ours = learning_rate_at(step, peak=0.3, schedule=schedule, warmup_steps=warmup_steps, steps=20)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_follows_its_recurrence_and_exchanges_places(dtype):
    weights = FlatWeights({"w": (1,)}, 1, dtype, "cpu")
    weights.write("w", torch.tensor([1.001]))
    average = ExponentialMovingAverage(weights, decay=0.5)
    value = expected = 1.001
    for number in range(1, 10):
        value += 1.0
        weights.write("w", torch.tensor([value]))
        average.update(torch.tensor([number]))
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
    assert average.average[0, 0].item() == pytest.approx(expected, rel=1e-6)
    with average.swapped_in():
        assert weights.read("w").item() == pytest.approx(expected, rel=1e-6)
    assert weights.read("w").item() == pytest.approx(value, rel=1e-7)


def record(step):
    return StepRecord(step=step, loss=1.0 / step, instance_loss=0.5, prior_loss=None, learning_rate=1e-4, seconds=0.1)


def test_a_resumed_log_drops_what_lies_after_its_step_and_a_torn_line(tmp_path):
    with TrainingLog(tmp_path, "lora-2", [], 0) as log:
        for step in (1, 2, 3):
            log.write(record(step))
    with (tmp_path / LOG_FILE).open("a") as file:
        file.write('{"step": 4, "lo')
    with TrainingLog(tmp_path, "lora-2", [], 2) as log:
        log.write(record(3))
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert read_log(tmp_path / "nowhere.jsonl") == []


def test_a_log_refuses_what_is_no_finite_number_by_its_field(tmp_path):
    rates = {"unet": 1e-4, "text_encoder": float("nan")}
    with (
        TrainingLog(tmp_path, "lora-2", [], 0) as log,
        pytest.raises(NotFiniteError, match=r"log\.jsonl: learning_rates\.text_encoder is nan; nothing was written"),
    ):
        log.write(record(1).model_copy(update={"learning_rates": rates}))
    assert (tmp_path / LOG_FILE).read_text() == ""


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_gets_every_number(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TrainingLog(tmp_path, "lora-2", ["tensorboard"], 0) as log:
        log.write(record(1))
        log.write(record(2))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    assert "prior_loss" not in events.Tags()["scalars"]


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_a_missing_tracker_is_named(tmp_path):
    with pytest.raises(InputError, match=r"limner\[wandb\]"):
        TrainingLog(tmp_path, "lora-2", ["wandb"], 0)


@pytest.mark.parametrize("count", [1, 200, 201, 5000])
def test_thinning_keeps_both_ends(count):
    records = [{"step": step} for step in range(count)]
    kept = thinned(records)
    assert len(kept) == min(count, 200)
    assert (kept[0], kept[-1]) == (records[0], records[-1])


def state(step):
    optimizer = {"state": {0: {"step": torch.tensor(float(step)), "exp_avg": torch.ones(2)}}, "param_groups": []}
    return Checkpoint(step, {"w": torch.full((2,), float(step))}, optimizer, None, {"seconds": 1.5})


def test_two_states_are_kept_and_the_newest_whole_one_is_read(tmp_path):
    for step in (1, 2, 10):
        write_checkpoint(tmp_path, state(step), "key")
    assert [folder.name for folder in step_folders(tmp_path)] == ["step-2", "step-10"]
    notices = Notices()
    newest = newest_checkpoint(tmp_path, "key", notices)
    assert (newest.step, newest.trained["w"].tolist(), newest.counters) == (10, [10.0, 10.0], {"seconds": 1.5})
    assert notices.lines == []
    damaged = tmp_path / "step-10" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert newest_checkpoint(tmp_path, "key", notices).step == 2
    assert "step-10 is damaged" in notices.lines[0]


def test_a_state_of_other_settings_is_not_taken(tmp_path):
    write_checkpoint(tmp_path, state(1), "key")
    assert newest_checkpoint(tmp_path, "another key") is None


def test_a_cut_prompt_is_told_and_a_lost_subject_refused(tiny_base):
    notices = Notices()
    late = "a photo of sks cat" + " snow" * 80
    assert prompt_ids(tiny_base, SUBJECT, ["a photo of sks cat", "a photo of cat"], notices).shape == (2, 77)
    assert notices.lines == []
    prompt_ids(tiny_base, SUBJECT, [late], notices)
    assert "10 tokens too long" in notices.lines[0]
    with pytest.raises(PromptError, match='loses its subject "sks cat"'):
        prompt_ids(tiny_base, SUBJECT, ["snow " * 75 + "sks cat"])
    with pytest.raises(PromptError, match='loses its subject "sks"'):
        prompt_ids(tiny_base, SUBJECT, ["snow " * 80 + "sks"])


def test_a_frozen_text_encoder_encodes_once(tiny_base):
    ids = prompt_ids(tiny_base, SUBJECT, ["a photo of sks cat"])
    frozen, trained = (PromptEmbeds(tiny_base, ids, variants=2, trained=trained) for trained in (False, True))
    before = frozen()
    assert before.shape[:2] == (1, 1)
    assert torch.equal(before.expand(2, -1, -1, -1), trained())
    with torch.no_grad():
        for parameter in tiny_base.text_encoder.parameters():
            parameter.mul_(0.5)
    assert torch.equal(before, frozen())
    assert not torch.equal(before[0], trained()[0])
