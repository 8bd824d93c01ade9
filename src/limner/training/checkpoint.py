"""Resumable states of a training: folders `step-N`, written whole, the last two kept.

trained.safetensors   the trained weights, fp32
average.safetensors   their moving average, where one is kept
optimizer.pt          the optimizer's state, read with weights_only=True
manifest.json         hashes of the files, the training's key, and the counters
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.artifacts import (
    Manifest,
    file_hashes,
    is_current,
    load_manifest,
    machine_record,
    read_manifest,
    whole_folder,
    write_manifest,
)
from limner.progress import SILENT, Progress
from limner.records import CheckpointRecord

STAGE, VERSION = "checkpoint", 1
KEPT = 2
TRAINED, AVERAGE, OPTIMIZER = "trained.safetensors", "average.safetensors", "optimizer.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training needs to go on after `step` optimizer steps as if it had never stopped."""

    step: int
    trained: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    average: Mapping[str, Tensor] | None
    counters: Mapping[str, Any]  # plain numbers: seconds, steps skipped in a row, the loss scale


def write_checkpoint(work: Path, checkpoint: Checkpoint, key: str) -> None:
    """Write `work/step-N` whole, then drop all but the last two."""
    from safetensors.torch import save_file

    with whole_folder(_folder(work, checkpoint.step)) as folder:
        save_file(_plain(checkpoint.trained), folder / TRAINED)
        if checkpoint.average is not None:
            save_file(_plain(checkpoint.average), folder / AVERAGE)
        torch.save(checkpoint.optimizer, folder / OPTIMIZER)
        record = CheckpointRecord(step=checkpoint.step, counters=dict(checkpoint.counters))
        manifest = Manifest(STAGE, VERSION, key, {}, {}, file_hashes(folder), machine_record(), record)
        write_manifest(folder, manifest)
    for old in step_folders(work)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def newest_step(work: Path, key: str, progress: Progress = SILENT) -> int:
    """The step of the newest whole state of this very training, 0 where there is none; damaged ones are named."""
    for folder in reversed(step_folders(work)):
        manifest = read_manifest(folder)
        if manifest is not None and manifest.key != key:
            continue  # of other settings
        if is_current(folder, key):
            return int(folder.name[5:])
        progress.notice(f"{folder} is damaged and is ignored; training continues from the state before it")
    return 0


def newest_checkpoint(work: Path, key: str, progress: Progress = SILENT) -> Checkpoint | None:
    """The newest state of this very training whose files are whole; None where there is none."""
    step = newest_step(work, key, progress)
    return _read(_folder(work, step)) if step else None


def remove_checkpoints(work: Path) -> None:
    """Remove all states, when they are of other settings or no longer needed."""
    for folder in step_folders(work):
        shutil.rmtree(folder)


def step_folders(work: Path) -> list[Path]:
    """The folders `step-N`, oldest first."""
    folders = [path for path in work.glob("step-*") if path.is_dir() and path.name[5:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[5:]))


def _folder(work: Path, step: int) -> Path:
    return work / f"step-{step}"


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read(folder: Path) -> Checkpoint:
    from safetensors.torch import load_file

    record = load_manifest(folder).record
    assert isinstance(record, CheckpointRecord)  # no other record has such a key
    return Checkpoint(
        record.step,
        load_file(folder / TRAINED),
        torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True),
        load_file(folder / AVERAGE) if (folder / AVERAGE).is_file() else None,
        record.counters,
    )
