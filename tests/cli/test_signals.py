"""What ends a training from outside, and how it goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limner.artifacts import read_manifest
from limner.training import LOG_FILE
from limner.training.checkpoint import step_folders
from limner.training.interruption import uninterrupted
from tests.studies import write_study

STEPS = 1000  # far more than are taken before a signal comes, and over in a minute should none come
CHANGES = {
    "checkpoint_every_steps = 2": f"steps = {STEPS}\ncheckpoint_every_steps = 0\nprior_preservation = false",
    '[[variants]]\nmethod = "lora"\nrank = [1, 2]\nprior_preservation = true\n\n': "",
    '[[variants]]\nname = "on top"\nmethod = "lora"\nstart_from = "full"\n\n': "",
}
DYING_WITH_PYTEST = """
import ctypes, runpy, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
runpy.run_module("limner", run_name="__main__", alter_sys=True)
"""
"""`python -m limner` that does not outlive a pytest that is killed; elsewhere than on Linux its steps run out."""


@contextlib.contextmanager
def _training(study: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """`limner train` beside the block; dead after it, whatever happens."""
    command = [sys.executable, "-c", DYING_WITH_PYTEST, "train", str(study), "--out", str(out), "--device", "cpu"]
    environment, pipe = os.environ | {"OMP_NUM_THREADS": "1"}, subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, stdout=pipe, text=True, env=environment) as training:
        try:
            yield training
        finally:
            training.kill()  # nothing where it has ended


def _steps(work: Path) -> int:
    return (work / LOG_FILE).read_text().count("\n") if (work / LOG_FILE).is_file() else 0


def _stopped(study: Path, out: Path, number: signal.Signals) -> tuple[int, list[str]]:
    """Train until a few steps more than there were are taken, send the signal; exit code and what was said."""
    work = out / "work" / "full"
    began, deadline = _steps(work), time.monotonic() + 120
    with _training(study, out) as training:
        while _steps(work) < began + 3 and training.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        training.send_signal(number)
        _, said = training.communicate(timeout=60)
    return training.returncode, said.splitlines()


def test_sigterm_and_ctrl_c_finish_the_step_save_and_can_be_gone_on_from(tiny_folder, tmp_path):
    study = write_study(tmp_path, tiny_folder, changes=CHANGES)
    code, said = _stopped(study, tmp_path / "run", signal.SIGTERM)
    assert code == 143
    assert said[-1] == "limner: terminated by SIGTERM; run the same command again to continue where it stopped"
    (first,) = step_folders(tmp_path / "run" / "work" / "full")
    assert any(f"stopped after step {first.name[5:]} of {STEPS}" in line for line in said)
    assert int(first.name[5:]) == _steps(tmp_path / "run" / "work" / "full")

    code, said = _stopped(study, tmp_path / "run", signal.SIGINT)
    assert code == 130
    assert said[-1] == "limner: interrupted; run the same command again to continue where it stopped"
    assert any(f"continuing after step {first.name[5:]} of {STEPS}" in line for line in said)
    newest = step_folders(tmp_path / "run" / "work" / "full")[-1]
    assert int(newest.name[5:]) > int(first.name[5:])
    assert read_manifest(newest) is not None


def _fail(number: signal.Signals) -> None:
    with uninterrupted():
        signal.raise_signal(number)
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_an_uninterrupted_block(number):
    came, done = [], []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(number)
            done.append(came.copy())
        with pytest.raises(ZeroDivisionError):  # nor is it lost when the block fails
            _fail(number)
        assert done == [[]]
        assert came == [number, number]
    finally:
        signal.signal(number, before)
