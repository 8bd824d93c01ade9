"""Every measured thing runs in a process of its own, one after another unless each has its own cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from bench.records import Record, read_record

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
TAIL_LINES = 15
THREADS = 2  # of each process, where several run side by side on a processor
Started = tuple[subprocess.Popen[bytes], Path]  # a process, and where its record will lie


class ProcessFailedError(Exception):
    """A measured process ended with an error; its last lines are the message."""


def run_module(module: str, record: Path, arguments: Sequence[object], cores: Sequence[int] = ()) -> Record:
    """Run `python -m module RECORD ARGUMENTS…` to its end and read its record. Raises ProcessFailedError."""
    return finish(start_module(module, record, arguments, cores), record)


def start_module(
    module: str, record: Path, arguments: Sequence[object], cores: Sequence[int] = (), extra: Mapping[str, str] = {}
) -> subprocess.Popen[bytes]:
    """Start it; with `cores` it keeps to those, has as many threads, and sees no GPU."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    environment = os.environ | QUIET | dict(extra)
    pinned = []
    if cores:
        environment |= {"OMP_NUM_THREADS": str(len(cores)), "CUDA_VISIBLE_DEVICES": ""}
        pinned = ["taskset", "-c", ",".join(map(str, cores))]
    command = [*pinned, sys.executable, "-m", module, str(record), *map(str, arguments)]
    print(f"… {' '.join(command[len(pinned) + 1 :])}", file=sys.stderr, flush=True)
    with record.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def finish(process: subprocess.Popen[bytes], record: Path) -> Record:
    """Wait for a started process and read its record. Raises ProcessFailedError."""
    wait_for(process, record)
    return read_record(record)


def wait_for(process: subprocess.Popen[bytes], record: Path) -> None:
    """Wait until a started process has ended and written its record. Raises ProcessFailedError."""
    began = time.time()
    code = process.wait()
    log = record.with_suffix(".log")
    if code or not record.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        raise ProcessFailedError(f"{log} ended with {code}:\n" + "\n".join(lines))
    print(f"  {time.time() - began:.0f} s", file=sys.stderr, flush=True)


def side_by_side(jobs: Mapping[str, Callable[[Sequence[int]], Started]]) -> dict[str, Record]:
    """Records of processes that are started with two cores each, as many at once as there are cores for."""
    groups = core_groups(len(jobs))
    free: Queue[list[int]] = Queue()
    for group in groups:
        free.put(group)

    def run(name: str) -> Record | None:
        cores = free.get()
        try:
            return finish(*jobs[name](cores))
        except ProcessFailedError as error:
            print(f"not measured: {error}", flush=True)
            return None
        finally:
            free.put(cores)

    with ThreadPoolExecutor(len(groups)) as pool:
        found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    return {name: record for name, record in found.items() if record is not None}


def core_groups(jobs: int) -> list[list[int]]:
    """Groups of two cores of this process's, as many as there are jobs if cores are enough, else one."""
    own = sorted(os.sched_getaffinity(0))
    groups = [own[start : start + THREADS] for start in range(0, len(own) - THREADS + 1, THREADS)]
    return groups[:jobs] if len(groups) >= jobs else groups[:1]
