"""Tables of a processor's work: the demo, the scripts' trainings on the miniature, and what settings do to a step."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import studies
from bench.bases import with_fp32_text_encoder
from bench.processes import Started, core_groups, finish, side_by_side, start_module
from bench.records import Record, steady_rate
from bench.studies import Ground, Training
from bench.table import Figure, Row, figure
from bench.tables import Bench, attempt

REPEATS = 3
CPU_TRAININGS = {
    "full": Training("full", 320, 2, text_encoder=True, snr_gamma=5.0, learning_rate=3e-4),
    "lora": Training("lora", 240, 2, ranks=(16,), text_encoder=True, learning_rate=3e-3),
}
"""The demo's two methods as both sides can do them: the script's LoRA knows neither Min-SNR nor other layers."""
STEP_STEPS = 40
WAIT = "OMP_WAIT_POLICY"
BUSY = "while True: pass"


@dataclass(frozen=True)
class Setting:
    """One way to run a step: `busy` puts a spinning process on each of its cores."""

    name: str
    method: str = "full"
    precision: str = "fp32"
    environment: Mapping[str, str] | None = None
    busy: bool = False


SETTINGS = (
    Setting("full"),
    Setting("full, passive waiting", environment={WAIT: "PASSIVE"}),
    Setting("full, bf16", precision="bf16"),
    Setting("full, beside other work", busy=True),
    Setting("full, passive waiting, beside other work", environment={WAIT: "PASSIVE"}, busy=True),
    Setting("LoRA 16", "lora"),
    Setting("LoRA 16, passive waiting", "lora", environment={WAIT: "PASSIVE"}),
    Setting("LoRA 16, bf16", "lora", precision="bf16"),
)


def demo(bench: Bench) -> list[Row]:
    """`limner demo` on two cores, from nothing to the report."""
    from limner.demo import demo_study

    folder = bench.fresh("demo")
    study = folder / "study.toml"
    study.write_text(demo_study(None, "cat face"), encoding="utf-8")
    arguments = [study, folder / "run", "--what", "report", "--device", "cpu"]
    record = folder / "record.json"
    cores = core_groups(1)[0]
    done = finish(start_module("bench.ours", record, arguments, cores), record)
    return [Row("the demo, two threads", figure(done, [done.ended - done.started], None, done.note), None, "s")]


def peer_cpu(bench: Bench, method: str) -> list[Row]:
    """The same training by limner and by the script: whole commands on two threads each, miniature, equal steps.

    Where there are cores enough all repeats of both run at once, each on cores of its own; else one after another.
    """
    training = CPU_TRAININGS[method]
    both = ("ours", "peer") if bench.peers else ("ours",)
    jobs = {f"{whose}-{repeat}": (whose, f"{method}-{whose}-{repeat}") for repeat in range(REPEATS) for whose in both}
    _ = bench.ground.photos  # drawn before the processes' threads ask for them
    records = side_by_side({name: partial(_start, bench, training, *job) for name, job in jobs.items()})
    sides = {}
    for whose in ("ours", "peer"):
        found = [record for name, record in records.items() if name.startswith(whose)]
        sides[whose] = _whole_figure(found, training.steps) if found else None
    work = f"{training.method}, {training.steps} steps of batch {training.batch_size}, miniature, two threads"
    return [Row(work, sides["ours"], sides["peer"], "s", "whole commands, loading and saving included")]


def _start(bench: Bench, training: Training, whose: str, name: str, cores: Sequence[int]) -> Started:
    folder = bench.fresh(f"cpu-{name}")
    record = folder / "record.json"
    if whose == "ours":
        study = studies.write_study(folder, bench.ground, studies.training_tables(bench.ground, [training]))
        every = max(1, training.steps // 10)
        arguments: list[object] = [study, folder / "run", "--what", "train", "--every", every, "--device", "cpu"]
        return start_module("bench.ours", record, arguments, cores), record
    assert bench.peers is not None
    rank = training.ranks[0] if training.ranks else 0
    arguments = [bench.peers / training.script]
    arguments += training.script_arguments(bench.ground, folder / "out", arithmetic="fp32", rank=rank)
    return start_module("bench.observed", record, arguments, cores), record


def _whole_figure(records: Sequence[Record], steps: int) -> Figure:
    rates = [steady_rate(record, steps // 5) for record in records]
    per_step = statistics.median(rate.median for rate in rates)
    warm_up = statistics.median(rate.warm_up_seconds for rate in rates)
    seconds = [record.ended - record.started for record in records]
    return figure(records[0], seconds, warm_up, f"a steady step {1000 * per_step:.0f} ms")


def miniature_ground(work: Path) -> Ground:
    """The embedded miniature, with drawn photos of its size."""
    from limner.base import find_base

    return Ground(work, with_fp32_text_encoder(find_base("miniature").path, work / "miniature"), 256, "cpu")


def cpu_settings(bench: Bench) -> list[Row]:
    """Seconds of limner's step on two threads at several settings; one after another where cores are few."""
    rows = []
    groups = core_groups(len(SETTINGS))
    for start in range(0, len(SETTINGS), len(groups)):
        chosen = SETTINGS[start : start + len(groups)]
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(_step_process(bench, *pair)) for pair in zip(chosen, groups, strict=False)]
            rows += [_step_row(setting, *started) for setting, started in zip(chosen, running, strict=True)]
    return rows


@contextlib.contextmanager
def _step_process(bench: Bench, setting: Setting, cores: Sequence[int]) -> Iterator[tuple[Any, Path]]:
    """A running process, and beside it the busy ones until the block ends."""
    training = replace(CPU_TRAININGS[setting.method], steps=STEP_STEPS, precision=setting.precision)
    folder = bench.fresh(f"step-{SETTINGS.index(setting)}")
    study = studies.write_study(folder, bench.ground, studies.training_tables(bench.ground, [training]))
    arguments: list[object] = [study, folder / "run", "--what", "train", "--every", 5, "--device", "cpu"]
    record = folder / "record.json"
    burning = [
        subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", BUSY])
        for core in (cores if setting.busy else ())
    ]
    try:
        yield start_module("bench.ours", record, arguments, cores, setting.environment or {}), record
    finally:
        for process in burning:
            process.kill()
            process.wait()


def _step_row(setting: Setting, process: Any, path: Path) -> Row:
    def measure() -> Figure:
        record = finish(process, path)
        rate = steady_rate(record, STEP_STEPS // 4)
        return figure(record, rate.seconds, rate.warm_up_seconds)

    return Row(f"a step of batch 2, {setting.name}", attempt(measure), None)
