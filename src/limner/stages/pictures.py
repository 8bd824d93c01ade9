"""What the stages that render share: making what a grid lacks, and writing down what there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from limner.artifacts import Cell, Manifest, Specification, machine_record, require_space, write_manifest
from limner.base import Base
from limner.base.devices import rendering_dtype
from limner.records import ArtifactRecord
from limner.rendering import Conditioning, Grid, Plan, Planned, hashes_of, in_precision, render_plan
from limner.stages.context import Context

BYTES_PER_PIXEL = 3


@dataclass(frozen=True)
class Draft:
    """What a stage's manifest says before anything is made."""

    specification: Specification
    began: float = field(default_factory=time.perf_counter)

    def write(self, out: Path, files: Sequence[str], record: ArtifactRecord, rendered: int) -> dict[str, str]:
        """Write the manifest of `files` in `out`, `rendered` of them made just now; returns their hashes."""
        hashes = hashes_of(out, files)
        machine = machine_record(seconds=time.perf_counter() - self.began, rendered=rendered)
        manifest = Manifest.of(self.specification, record, hashes, machine)
        write_manifest(out, manifest)
        return hashes


def make_missing(
    context: Context,
    grid: Grid,
    plan: Plan,
    stage: str,
    *,
    look_at: Callable[[Base], None] = lambda loaded: None,
    conditioning: Callable[[Base], Conditioning | None] = lambda loaded: None,
) -> dict[str, bool | None]:
    """Render what is missing, if anything is; returns the safety checker's verdict on every picture of the plan.

    `look_at` may refuse the loaded base before anything is rendered; `conditioning` is asked for with the base as it
    is rendered with. Raises DiskError when there is no room.
    """
    if not plan.missing:
        return dict(plan.present)
    require_space(grid.folder, plan.missing_pixels * BYTES_PER_PIXEL)
    loaded = context.base()
    look_at(loaded)
    loaded = in_precision(loaded, rendering_dtype(grid.precision, loaded.device))
    conditions = conditioning(loaded)
    with context.progress.task(stage, plan.missing) as advance:
        rendered = render_plan(loaded, grid, plan, advance, conditions, context.progress.notice)
    torch.cuda.empty_cache()  # what was captured takes memory that others cannot use
    return {**plan.present, **rendered}


def flagged_cells(cells: Sequence[tuple[Planned, Cell]], flags: Mapping[str, bool | None]) -> list[Cell]:
    """A grid's pictures with the safety checker's verdicts."""
    return [cell.model_copy(update={"flagged": flags[cell.file]}) for _, cell in cells]


def keys_of(cells: Sequence[tuple[Planned, Cell]]) -> dict[str, str]:
    """The key of each picture, by file."""
    return {planned.file: planned.key for planned, _ in cells}
