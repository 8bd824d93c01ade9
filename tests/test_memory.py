"""Memory in the corridor: what is chosen to fit, what is kept of it, what is said where nothing fits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from limner import opening
from limner.config import expand_variants, stacks_of, with_settings
from limner.errors import InputError, StudyError
from limner.memory import train_peak
from limner.memory.calibration import CALIBRATION, GIB, Calibration
from limner.opening import LOCK, checked_study, fit_to_memory, open_study
from limner.running.run import Run
from limner.study import run_study
from tests.studies import write_study

CUDA = torch.device("cuda")


@pytest.fixture
def study(tiny_folder, tmp_path):
    return write_study(tmp_path, tiny_folder)


@pytest.fixture
def small_cards(monkeypatch):
    """Nothing but tensors takes memory, so that a tiny base can be too large for a card."""
    free = Calibration(context=0, workspace=0, slack=1.0, plain_slack=1.0, apart=0.0, side_stream=0.0)
    monkeypatch.setattr("limner.memory.calibration.CALIBRATION", free)


def gib(mebibytes: float) -> str:
    return str(mebibytes * 2**20 / GIB)


def test_on_a_processor_nothing_is_changed_and_nothing_is_limited(study):
    opened = open_study(study, device=torch.device("cpu"))
    assert opened.study == checked_study(study).study
    assert "memory" not in opened.origins.values()
    assert opened.limit_gib is None


def test_what_was_chosen_is_in_the_lock_file_with_its_origin(study, tmp_path, small_cards):
    run_study(study, tmp_path / "run", until="prepare", memory=gib(2.0))
    lock = json.loads((tmp_path / "run" / LOCK).read_text())
    chosen = {path for path, origin in lock["origins"].items() if origin == "memory"}
    assert {"memory.budget_gib", "memory.offload"} <= chosen
    assert lock["study"]["memory"]["offload"] is True


def test_a_run_that_began_with_a_limit_keeps_it_on_any_machine(study, tmp_path, small_cards):
    run_study(study, tmp_path / "run", until="prepare", memory=gib(2.0))
    began = (tmp_path / "run" / LOCK).read_bytes()
    run_study(study, tmp_path / "run", until="prepare")
    assert (tmp_path / "run" / LOCK).read_bytes() == began
    assert fit_to_memory(checked_study(study), None, "", tmp_path / "run").study.memory.offload
    assert not fit_to_memory(checked_study(study), None, "", tmp_path / "elsewhere").study.memory.offload


def test_a_run_that_began_without_a_limit_is_not_changed_by_a_small_card(study, tmp_path, monkeypatch, small_cards):
    run_study(study, tmp_path / "run", until="prepare")
    monkeypatch.setattr(opening, "device_memory_gib", lambda device: float(gib(2.0)))
    opened = fit_to_memory(checked_study(study), CUDA, "", tmp_path / "run")
    assert opened.study == checked_study(study).study
    assert opened.limit_gib == float(gib(2.0))


def test_auto_takes_what_the_gpu_has(study, monkeypatch):
    monkeypatch.setattr(opening, "device_memory_gib", lambda device: 8.0)
    opened = open_study(study, device=CUDA)
    assert (opened.study.memory.budget_gib, opened.limit_gib) == (8.0, 8.0)
    assert opened.origins["memory.budget_gib"] == "memory"


def test_what_cannot_fit_the_gpu_is_a_fault_before_anything_is_loaded(study, monkeypatch, small_cards):
    monkeypatch.setattr(opening, "device_memory_gib", lambda device: float(gib(0.25)))
    with pytest.raises(StudyError, match=r"train full needs about 0.0 GiB of GPU memory.*a LoRA") as raised:
        open_study(study, device=CUDA)
    assert len(raised.value.faults) > 1


def test_for_a_gpu_the_base_to_train_waits_on_the_cpu_and_so_does_one_that_is_offloaded(study, tmp_path):
    run = Run(checked_study(study), tmp_path, CUDA)
    base = run.training_base()
    assert base.device == CUDA
    assert {next(part.parameters()).device.type for part in base.parts()} == {"cpu"}
    assert base.vae.dtype == torch.float32
    assert run.training_base() is base
    offloaded = with_settings(run.study, {"memory.offload": True})
    run = Run(replace(run.opened, study=offloaded), tmp_path, CUDA)
    assert {next(part.parameters()).device.type for part in run.rendering_base().parts()} == {"cpu"}
    assert run.rendering_base().dtype == torch.float16


def test_a_stack_is_as_large_as_the_gpu_has_room_for(study, tmp_path, small_cards):
    opened = checked_study(study)
    runs = next(runs for runs in stacks_of(expand_variants(opened.study.variants)) if len(runs) > 1)
    parts = opened.parts
    highest = max(runs, key=lambda run: run.rank)
    enough = train_peak(highest, opened.study, parts, stacked=len(runs)).bytes / GIB
    for limit, device, wanted in ((enough, CUDA, 2), (enough / 2, CUDA, 1), (enough / 2, torch.device("cpu"), 2)):
        assert Run(replace(opened, limit_gib=limit), tmp_path, device)._trained_at_once(runs) == wanted


@pytest.mark.parametrize("size", ["-1", "0", "big", "nan", "inf"])
def test_a_size_that_is_none(study, size):
    with pytest.raises(InputError, match=f'--memory "{size}" is not a size'):
        open_study(study, memory=size)


def test_the_table_is_of_this_world():
    assert CALIBRATION.slack >= 1
    assert 0 < CALIBRATION.context < GIB
