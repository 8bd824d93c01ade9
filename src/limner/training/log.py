"""A training's log: one JSON line a step in `work/log.jsonl`, and TensorBoard or Weights & Biases when asked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from limner.artifacts import finite_json, write_whole
from limner.errors import InputError
from limner.records import StepRecord

LOG_FILE = "log.jsonl"
LONGEST_RECORD = 200
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def require_trackers(log_to: Sequence[str]) -> None:
    """Raise InputError when a tracker that was asked for is not installed."""
    for name in log_to:
        if find_spec(PACKAGES[name]) is None:
            raise InputError(
                f'log_to = ["{name}"] needs the package {PACKAGES[name]}; install it with: '
                f'pip install "limner[{name}]" (or take "{name}" out of log_to)'
            )


class TrainingLog:
    """Appends records; opening it for a resumed training first drops what lies after the step it goes on from."""

    def __init__(self, work: Path, label: str, log_to: Sequence[str], done_steps: int) -> None:
        require_trackers(log_to)
        self.path = work / LOG_FILE
        kept = [record for record in read_log(self.path) if record.step <= done_steps]
        write_whole(self.path, "".join(_line(self.path, record) for record in kept).encode())
        self._file: TextIO = self.path.open("a", encoding="utf-8")
        self._tensorboard = _open_tensorboard(work, done_steps) if "tensorboard" in log_to else None
        self._wandb = _open_wandb(work, label) if "wandb" in log_to else None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def write(self, record: StepRecord) -> None:
        """Append one step's record. Raises NotFiniteError, which names the field, for NaN and infinities."""
        self._file.write(_line(self.path, record))
        self._file.flush()
        numbers = {name: value for name, value in record.to_json().items() if name != "step" and value is not None}
        numbers |= {f"learning_rate/{group}": rate for group, rate in numbers.pop("learning_rates", {}).items()}
        if self._tensorboard is not None:
            for name, value in numbers.items():
                self._tensorboard.add_scalar(name, value, record.step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=record.step)

    def sync(self) -> None:
        """See that every line is on the disk: a state or an adapter that follows from these steps may be next."""
        os.fsync(self._file.fileno())


def _line(path: Path, record: StepRecord) -> str:
    return finite_json(path, record.to_json()) + "\n"


def read_log(path: Path) -> list[StepRecord]:
    """All whole lines of a log; a line that was cut off when its process died is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(StepRecord.from_json(json.loads(line)))
        except ValueError:
            continue
    return records


def thinned(records: Sequence[StepRecord], longest: int = LONGEST_RECORD) -> list[StepRecord]:
    """At most `longest` records, evenly spread, the first and the last among them."""
    if len(records) <= longest:
        return list(records)
    return [records[round(i * (len(records) - 1) / (longest - 1))] for i in range(longest)]


def _open_tensorboard(work: Path, done_steps: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(work / "tensorboard"), purge_step=done_steps + 1)


def _open_wandb(work: Path, label: str) -> Any:
    import wandb  # pyright: ignore[reportMissingImports]

    return wandb.init(project="limner", name=label, dir=str(work), resume="allow")
