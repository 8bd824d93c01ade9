"""What a measured process writes down, and the steady rate and warm-up read from it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

WINDOWS = 3  # of the steady part; their median is reported


@dataclass(frozen=True)
class Record:
    """One process: when it started and ended, when so many units were done, and its peak memory (bytes)."""

    started: float
    ended: float
    marks: Sequence[tuple[int, float]]  # (units done, time), growing
    reserved_bytes: int | None = None  # on the GPU, at the peak
    context_bytes: int | None = None  # on the GPU, beside what torch reserved, at the end
    resident_bytes: int = 0  # of the process, at the peak
    predicted_bytes: int | None = None  # predicted reserved memory on a GPU
    split: dict[str, float] | None = None  # GPU milliseconds a unit by kind of kernel
    total_units: int = 0  # of the timed tasks together
    note: str = ""

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read a record that a process wrote."""
    return Record(**json.loads(path.read_text(encoding="utf-8")))


def memory_used() -> dict[str, Any]:
    """This process's peaks so far."""
    import resource

    import torch

    used: dict[str, Any] = {"resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        used["reserved_bytes"] = torch.cuda.max_memory_reserved()
        used["context_bytes"] = total - free - torch.cuda.memory_reserved()
    return used


@dataclass(frozen=True)
class Rate:
    """Seconds a unit in each of the steady windows, and what passed before the steady part began."""

    seconds: tuple[float, ...]
    warm_up_seconds: float  # from the process's start, without the units' own steady time

    @property
    def median(self) -> float:
        """Median of the windows."""
        return statistics.median(self.seconds)


def steady_rate(record: Record, warm_up_units: int, windows: int = WINDOWS) -> Rate:
    """The rate after `warm_up_units`, in `windows` windows of about equal length.

    Raises ValueError when there are fewer marks than windows after the warm-up.
    """
    steady = [(int(units), float(time)) for units, time in record.marks if units >= warm_up_units]
    if len(steady) <= windows:
        raise ValueError(
            f"{len(steady)} marks lie after unit {warm_up_units} of {record.marks[-1][0] if record.marks else 0}; "
            f"{windows} windows need {windows + 1}: let it run longer"
        )
    bounds = [steady[round(index * (len(steady) - 1) / windows)] for index in range(windows + 1)]
    seconds = tuple((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairwise(bounds))
    first_units, first_time = bounds[0]
    return Rate(seconds, max(0.0, first_time - record.started - first_units * statistics.median(seconds)))
