"""A run and its plan, and a run under way as other processes see it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import limner.running.run
from limner.errors import LimnerError
from limner.events import Answered, Ended, Failed, Progressed, Started
from limner.progress import Progress
from limner.running.display import Lines, details_of, duration
from limner.running.lease import LEASE
from limner.running.record import read_events
from limner.study import plan_study, run_study
from tests.cli.test_signals import CHANGES, _training
from tests.studies import write_study

TASKS = [
    "prepare", "class-images", "train full", "train lora-1", "train lora-2", "train on top", "render", "control",
    "measure", "report",
]  # fmt: skip


@pytest.fixture(scope="module")
def done(tiny_folder, tmp_path_factory):
    """A study, its run, and what was heard of it."""
    folder, heard = tmp_path_factory.mktemp("planned"), []
    study = write_study(folder, tiny_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # other tests have left how long theirs took
        before = plan_study(study, folder / "run")
    run_study(study, folder / "run", progress=Progress(heard.append, every_seconds=0))
    return study, folder / "run", before, heard


def no_weights(*arguments, **options):
    raise AssertionError("weights were loaded")


def test_before_a_run_everything_is_to_do_and_says_what_it_waits_for(done):
    before = {task.name: task for task in done[2].tasks}
    assert list(before) == TASKS
    assert not any(task.current for task in before.values())
    assert before["prepare"].key is not None
    assert (before["train on top"].key, before["train on top"].after) == (None, ("prepare", "train full"))
    assert before["train lora-1"].group == before["train lora-2"].group == "train lora-1, lora-2"
    assert before["train full"].expected_seconds > 0
    assert before["train full"].seconds_from == "estimated", "rates of the miniature, scaled"
    assert done[2].expected_seconds > 0


def test_the_tasks_that_were_done_are_those_that_were_planned(done):
    _, _, before, heard = done
    started = [event.task for event in heard if isinstance(event, Started) and event.task]
    ended = [event.task for event in heard if isinstance(event, Ended) and event.task]
    assert started == ended == [task.name for task in before.to_do]
    assert [event.place for event in heard if isinstance(event, Started) and event.task] == list(range(1, 11))
    steps = [event for event in heard if isinstance(event, Progressed) and event.unit == "steps"]
    assert {event.task for event in steps} == {"train full", "train lora-2", "train on top"}  # a group's last
    assert steps[-1].losses.keys() == {"on top"}
    assert heard[-1].outcome == "done"


def test_after_a_run_all_is_current_and_nothing_is_loaded_to_see_it(done, monkeypatch):
    study, run, _, _ = done
    monkeypatch.setattr(limner.running.run, "load_base", no_weights)
    before = sorted(path.stat().st_mtime_ns for path in run.rglob("*"))
    plan = plan_study(study, run)
    assert [task.name for task in plan.tasks if task.current] == TASKS
    assert plan.expected_seconds == 0
    assert sorted(path.stat().st_mtime_ns for path in run.rglob("*")) == before


def test_another_prompt_leaves_trainings_current_and_what_follows_waits(done, tiny_folder, tmp_path):
    _, run, _, _ = done
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    study = write_study(tmp_path, tiny_folder, changes={"in the garden": "in the snow"})
    plan = plan_study(study, copy)
    assert [task.name for task in plan.to_do] == ["render", "measure", "report"]
    assert [task.after for task in plan.to_do] == [(), ("render",), ("render", "measure")]
    assert plan.to_do[0].units_left * 2 == plan.to_do[0].units, "pictures of the other prompt are there"
    assert plan.to_do[0].seconds_from == "this machine", "the run before has shown how long a picture takes"
    heard = []
    run_study(study, copy, progress=Progress(heard.append))
    assert [event.task for event in heard if isinstance(event, Ended) and event.task] == ["render", "measure", "report"]


def test_class_images_that_are_there_do_not_count_and_what_is_not_theirs_does(done, tmp_path):
    study, run, before, _ = done
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    pictures = sorted((copy / "class").glob("*.png"))
    pictures[0].unlink()
    shutil.copyfile(next((copy / "renders").rglob("*.png")), pictures[1])
    task = next(task for task in plan_study(study, copy).tasks if task.name == "class-images")
    assert (task.current, task.units_left, task.units) == (False, 2, len(pictures))
    planned = next(task for task in before.tasks if task.name == "class-images")
    assert planned.units_left == len(pictures), "without photos it is not known which are theirs"
    assert task.expected_seconds > 0


def test_a_plan_for_a_gpu_has_the_gib_of_its_stages(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("limner.opening.device_memory_gib", lambda device: 24.0)
    monkeypatch.setattr("limner.running.plan.device_name", lambda device: "a GPU")
    study, gpu = write_study(tmp_path, tiny_folder), torch.device("cuda")
    plan = plan_study(study, tmp_path / "run", device=gpu)
    gib = {task.name: task.gib for task in plan.tasks if task.gib is not None}
    assert {"train full", "train lora-2", "render"} <= gib.keys()
    assert all(0 < each < 24 for each in gib.values())
    assert plan.device == "cuda"
    assert not (tmp_path / "run").exists()


def test_every_task_of_a_pass_that_failed_says_so_and_ends_failed(done, tmp_path, monkeypatch):
    study, run, _, _ = done
    copy, heard = Path(shutil.copytree(run, tmp_path / "run")), []
    for label in ("lora-1", "lora-2"):
        shutil.rmtree(copy / "adapters" / label)

    def out_of_memory(*arguments, **options):
        raise LimnerError("no memory")

    monkeypatch.setattr(limner.running.run, "train", out_of_memory)
    with pytest.raises(LimnerError):
        run_study(study, copy, progress=Progress(heard.append))
    failed = [(event.task, event.stage, event.message) for event in heard if isinstance(event, Failed)]
    assert failed == [("train lora-1", "train", "no memory"), ("train lora-2", "train", "no memory")]
    ended = [(event.task, event.outcome) for event in heard if isinstance(event, Ended)]
    assert ended == [("train lora-1", "failed"), ("train lora-2", "failed"), ("", "failed")]


def test_the_plan_as_json_and_for_people(done, limner):
    study, run, _, _ = done
    record = json.loads(limner("plan", study, "--out", run, "--device", "cpu", "--json").out)
    assert [task["name"] for task in record["tasks"]] == TASKS
    said = limner("plan", study, "--out", run, "--device", "cpu").out.splitlines()
    assert "0 tasks to do, 10 current" in said[0]
    assert all(line.endswith("current") for line in said[1:])


def _wait_for(run: Path, wanted, offset: int = 0) -> tuple[list, int]:
    """The events from an offset on, followed until one is wanted."""
    deadline, heard = time.monotonic() + 120, []
    while time.monotonic() < deadline:
        more, offset = read_events(run, offset)
        heard += more
        if any(wanted(event) for event in heard):
            return heard, offset
        time.sleep(0.05)
    raise AssertionError(f"it did not come; heard were {heard[-3:]}")


def _limner(*arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limner", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _is_step(event) -> bool:
    return isinstance(event, Progressed) and event.unit == "steps" and event.step > 0


def test_a_run_under_way_is_followed_refuses_others_and_does_what_it_is_asked(tiny_folder, tmp_path):
    study, run = write_study(tmp_path, tiny_folder, changes=CHANGES), tmp_path / "run"
    with _training(study, run) as training:
        heard, offset = _wait_for(run, _is_step)
        assert heard[0].type == "started"
        second = _limner("train", study, "--out", run, "--device", "cpu")
        assert second.returncode == 2
        assert f"is in use: limner run {study} (process {training.pid} on " in second.stderr
        assert _limner("save", run).returncode == 0
        _limner("validate", run)
        heard, offset = _wait_for(run, lambda e: isinstance(e, Answered) and e.command == "validate", offset)
        answers = {event.command: event.outcome for event in heard if isinstance(event, Answered)}
        assert answers == {"save": "done", "validate": "refused"}  # this study's variants have no validations
        assert list((run / "work" / "full").glob("step-*"))
        assert _limner("stop", run).returncode == 0
        _, said = training.communicate(timeout=60)
        assert training.returncode == 130
        assert "stopped after step" in said
    heard, _ = read_events(run, offset)
    assert (heard[-1].type, heard[-1].outcome, heard[-1].exit_code) == ("ended", "stopped", 130)
    assert not (run / LEASE).exists()
    assert _limner("stop", run).returncode == 2


def test_lines_in_a_log_file(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("limner.running.display.time.monotonic", lambda: now[0])
    lines = Lines()
    lines(Started(task="train lora-2", stage="train", place=3, tasks=7))
    shared = {"stage": "train", "variants": ("lora-2",), "total": 500, "losses": {"lora-2": 0.1234}}
    lines(Progressed(**shared, step=0))
    for now[0], step in ((29.0, 100), (31.0, 110), (40.0, 130), (62.0, 200)):
        lines(Progressed(**shared, step=step, seconds_left=90.0, run_seconds_left=7200.0))
    lines(Progressed(**shared, step=500, seconds=150.0, last=True))
    said = "[3/7] train lora-2: {} of 500 steps, loss 0.1234, 2 min left, 2 h 0 min of the run"
    assert capsys.readouterr().err.splitlines() == [said.format(110), said.format(200), "[3/7] train lora-2: 150.0 s"]
    assert details_of(Progressed(**shared | {"losses": {}}, step=1)) == ""
    assert [duration(s) for s in (40, 600, 7500)] == ["40 s", "10 min", "2 h 5 min"]


def test_quiet_says_the_result_alone(done, tiny_folder, tmp_path, limner):
    study = write_study(tmp_path, tiny_folder)
    ended = limner("prepare", study.parent / "photos", "--out", tmp_path / "crops", "--size", 64, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("5 crops in ")
    refused = limner("run", tmp_path / "absent.toml", "--quiet")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
