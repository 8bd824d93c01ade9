"""The demo's training as whole commands: what was measured, and what is counted at the steady rate."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from bench.processes import side_by_side
from bench.processor_demo import DEMO, whole_figure
from bench.records import Record


def marks(first: int, count: int, start: float, seconds: float) -> list[tuple[int, float]]:
    """One mark a step, and one where they begin."""
    return [(first + step, start + step * seconds) for step in range(count + 1)]


def test_steps_that_were_left_out_count_at_the_rate_of_their_own_training():
    taken = [replace(DEMO[0], steps=32), replace(DEMO[1], steps=24)]
    full, lora = marks(0, 32, 10.0, 0.5), marks(32, 24, 30.0, 2.0)
    record = Record(0.0, 80.0, [*full, *lora])
    found = whole_figure(record, taken)
    assert found.median == pytest.approx(80 + 0.5 * (320 - 32) + 2.0 * (240 - 24))
    assert "500 ms, 2000 ms" in found.note


def test_with_all_steps_the_command_counts_as_it_was():
    record = Record(5.0, 300.0, marks(1, 319, 20.0, 0.8))
    assert whole_figure(record, DEMO[:1]).median == 295.0


def test_a_script_that_fails_leaves_the_others(tmp_path, capsys):
    def starting(name: str, code: str):
        def start(cores):
            record = tmp_path / f"{name}.json"
            record.with_suffix(".log").touch()
            return subprocess.Popen([sys.executable, "-c", code, str(record)]), record

        return start

    whole = f"import sys; from bench.records import Record; from pathlib import Path; Record(1.0, {time.time()}, [])"
    jobs = {
        "whole": starting("whole", whole + ".write(Path(sys.argv[1]))"),
        "broken": starting("broken", "raise SystemExit(3)"),
    }
    assert list(side_by_side(jobs)) == ["whole"]
    assert "ended with 3" in capsys.readouterr().out
