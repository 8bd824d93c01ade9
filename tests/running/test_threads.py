"""A study that runs in a thread, as a notebook's or a server's may: nobody there gets Ctrl-C."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from limner.artifacts import read_manifest
from limner.events import Progressed
from limner.progress import Listener, Progress, StopAskedError
from limner.running import commands
from limner.running.commands import give
from limner.running.lease import LEASE
from limner.study import run_study
from limner.training.checkpoint import step_folders
from tests.cli.test_signals import CHANGES, STEPS
from tests.studies import write_study

SHORT = CHANGES | {"checkpoint_every_steps = 2": CHANGES["checkpoint_every_steps = 2"].replace(str(STEPS), "8")}
STOP_STEP = 3


def in_a_thread(study: Path, run: Path, listener: Listener) -> BaseException | None:
    """Train in a thread; what it ended by."""
    ended: list[BaseException] = []

    def work() -> None:
        try:
            run_study(study, run, until="train", progress=Progress(listener, every_seconds=0))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(240)
    assert not thread.is_alive()
    return ended[0] if ended else None


def at_the_step(event) -> bool:
    return isinstance(event, Progressed) and event.unit == "steps" and event.step == STOP_STEP


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "adapters" / "full").glob("*.safetensors")}


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory) -> dict[str, bytes]:
    """The weights of a training that nothing stopped, in the main thread."""
    folder = tmp_path_factory.mktemp("whole")
    run_study(write_study(folder, tiny_folder, changes=SHORT), folder / "run", until="train")
    return weights(folder / "run")


@pytest.mark.parametrize("by", ["command", "listener"])
def test_a_run_in_a_thread_is_stopped_saves_its_state_and_goes_on_to_the_same_bytes(
    by, whole, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(commands, "LOOK_SECONDS", 0)
    study, run = write_study(tmp_path, tiny_folder, changes=SHORT), tmp_path / "run"

    def listener(event) -> None:
        if at_the_step(event) and by == "command":
            give(run, "stop")
        elif at_the_step(event):
            raise KeyboardInterrupt

    error = in_a_thread(study, run, listener)
    assert type(error) is (StopAskedError if by == "command" else KeyboardInterrupt)
    (state,) = step_folders(run / "work" / "full")
    assert state.name == f"step-{STOP_STEP}"
    assert read_manifest(state) is not None
    assert not (run / LEASE).exists()
    steps: list[int] = []

    def note(event) -> None:
        if isinstance(event, Progressed) and event.unit == "steps":
            steps.append(event.step)

    assert in_a_thread(study, run, note) is None
    assert min(step for step in steps if step) > STOP_STEP, "it did not begin again"
    assert weights(run) == whole
    assert whole
