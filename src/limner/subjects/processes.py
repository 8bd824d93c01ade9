"""Several subjects at once: each is a command in a process of its own, on its share of cores and on one GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from limner.events import Failed
from limner.running.record import EVENTS, read_events

LOG, POLL_SECONDS, SHUTDOWN_SECONDS = "run.log", 0.1, 30
CUT = "stopped because the time was up; run the same command again to continue"


@dataclass(frozen=True)
class Job:
    """One subject's study, and the folder of its run."""

    name: str
    study: Path
    run: Path


@dataclass(frozen=True)
class FinishedProcess:
    """How a job went; `fault` is empty where it was done."""

    name: str
    seconds: float
    fault: str = ""


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    events_before: int
    """Bytes of events that earlier processes left: what failed then says nothing of this one."""
    began: float = field(default_factory=time.monotonic)

    def ended(self, fault: str) -> FinishedProcess:
        return FinishedProcess(self.job.name, time.monotonic() - self.began, fault)


def run_jobs(
    jobs: Sequence[Job],
    *,
    device: str = "auto",
    processes: int = 1,
    deadline: float | None = None,
    began: Callable[[Job], None] = lambda job: None,
) -> Iterator[FinishedProcess]:
    """Every job, `processes` at once, each as it ends. At the `deadline` (of time.monotonic) the rest is stopped.

    A stopped job has saved its state. Whoever leaves this iterator early stops what runs, too.
    """
    waiting, running = list(jobs), dict[int, _Running]()
    try:
        while waiting or running:
            if deadline is not None and time.monotonic() >= deadline:
                break
            for slot in [slot for slot in range(processes) if slot not in running][: len(waiting)]:
                began(waiting[0])
                running[slot] = _start(waiting.pop(0), slot, processes, device)
            time.sleep(POLL_SECONDS)
            for slot, each in list(running.items()):
                if each.process.poll() is not None:
                    del running[slot]
                    yield each.ended(_fault(each))
    finally:
        _stop([each.process for each in running.values()])
    for each in running.values():  # some ended by themselves in the meantime
        yield each.ended("" if each.process.returncode == 0 else CUT)
    yield from (FinishedProcess(job.name, 0.0, CUT) for job in waiting)


def _start(job: Job, slot: int, processes: int, device: str) -> _Running:
    command = [sys.executable, "-m", "limner", "measure", str(job.study), "--out", str(job.run), "--device", device]
    environment = dict(os.environ)
    if processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        environment |= _gpu_of(slot, environment.get("CUDA_VISIBLE_DEVICES", ""))
    events = job.run / EVENTS
    before = events.stat().st_size if events.exists() else 0
    with (job.run / LOG).open("wb") as log:
        return _Running(job, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment), before)


def _gpu_of(slot: int, visible: str) -> dict[str, str]:
    """Slots take the GPUs in turn; nothing where there is one or none."""
    count = torch.cuda.device_count()
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[slot % count]} if count > 1 else {}


def _fault(each: _Running) -> str:
    """What a command said last when it failed, on one line."""
    code = each.process.returncode
    if code == 0:
        return ""
    if failed := [event for event in read_events(each.job.run, each.events_before)[0] if isinstance(event, Failed)]:
        return " ".join(failed[-1].message.split())
    lines = (each.job.run / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    message_starts = [index for index, line in enumerate(lines) if line.startswith("limner: ")]
    if message_starts:
        return " ".join(line.strip() for line in lines[message_starts[-1] :]).removeprefix("limner: ")
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"ended with {code}: {last}"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let them save their state; those that take too long are killed."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    until = time.monotonic() + SHUTDOWN_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
