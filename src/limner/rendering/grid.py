"""A grid of pictures on disk: which exist, and which batches produce the missing ones.

A picture's key covers everything that it depends on and is stored in the picture, so an interrupted grid resumes
picture by picture. Batches are planned over the whole grid, including existing pictures, and a batch with one picture
missing is computed completely: so a picture that is rendered again has the same batch shape and the same position in
it, and the same bytes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.artifacts import Cell, hash_file, read_manifest, stage_key, unique
from limner.base import Base
from limner.config import Memory
from limner.records import ClassSetRecord, RenderSetRecord
from limner.rendering.batch import Recipe, Request
from limner.rendering.columns import Column
from limner.rendering.parameters import generation_parameters, model_name
from limner.rendering.png import read_stamp, stamped_key
from limner.settings.values import BatchSize

CELL_VERSION = 1  # increase it when equal requests give other pictures


@dataclass(frozen=True)
class Planned:
    """One picture of a grid: what it shows, where it goes (relative to the grid's folder) and its key."""

    column: Column
    request: Request
    file: str
    key: str

    def cell(self, prompt: str) -> Cell:
        """The picture as a manifest records it; `prompt` names its row, or says it for a control cell."""
        request, controlled = self.request, bool(self.request.reference)
        return Cell(
            variant=self.column.label,
            prompt=prompt,
            seed=request.seed,
            image_index=request.image_index,
            file=self.file,
            text=request.prompt,
            negative_prompt=request.negative_prompt,
            reference=request.reference if controlled else None,
            conditioning_scale=request.conditioning_scale if controlled else None,
            training_seed=self.column.training_seed,
            lora_scale=self.column.strength if self.column.is_stackable else None,
            size=request.size,
        )


@dataclass(frozen=True)
class Plan:
    """All pictures of a grid, and which exist (with the safety checker's verdicts)."""

    present: Mapping[str, bool | None]
    cells: Sequence[Planned]

    @property
    def missing(self) -> int:
        """How many pictures must be rendered."""
        return len(self._missing())

    @property
    def missing_pixels(self) -> int:
        """Their pixels."""
        return sum(math.prod(cell.request.size) for cell in self._missing())

    def batches(self, batch_size: int) -> list[list[Planned]]:
        """The batches with missing pictures, out of all batches of the grid."""
        batches = batches_of(self.cells, batch_size)
        return [batch for batch in batches if any(cell.file not in self.present for cell in batch)]

    def _missing(self) -> list[Planned]:
        return [cell for cell in self.cells if cell.file not in self.present]


@dataclass(frozen=True)
class Grid:
    """The common settings of a grid. `inputs` are further inputs of each reference, by content hash."""

    folder: Path
    base_hash: str
    recipe: Recipe
    precision: str
    batch_size: BatchSize
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    check: bool = True
    control: str = ""  # how the web UI's "parameters" describe the ControlNet
    memory: Memory = field(default_factory=Memory)

    def cell(self, column: Column, request: Request, file: str) -> Planned:
        """A picture of this grid, with its key."""
        settings = {
            "sampler": self.recipe.sampler,
            "steps": self.recipe.steps,
            "guidance_scale": float(self.recipe.guidance_scale),
            "precision": self.precision,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "seed": request.seed,
            "image_index": request.image_index,
            "size": list(request.size),
            "strength": float(column.strength),
            "conditioning_scale": float(request.conditioning_scale),
        }
        inputs = {"base": self.base_hash, "adapter": column.weights, **self.inputs.get(request.reference, {})}
        return Planned(column, request, file, stage_key("cell", CELL_VERSION, settings, inputs))

    def plan(self, cells: Sequence[Planned]) -> Plan:
        """Find which pictures exist."""
        return Plan(self._present(cells), cells)

    def count_missing(self, cells: Sequence[Planned]) -> int:
        """About how many `plan` would find missing: the pictures' heads are read alone, so a damaged one counts."""
        return sum(stamped_key(self.folder / cell.file) != cell.key for cell in cells)

    def _present(self, cells: Sequence[Planned]) -> dict[str, bool | None]:
        manifest = read_manifest(self.folder)
        record = manifest.record if manifest else None
        keys = record.keys if isinstance(record, RenderSetRecord | ClassSetRecord) else {}
        present = {}
        for cell in cells:
            # The hash of a picture counts only if the manifest recorded it with the same key.
            content_hash = manifest.files.get(cell.file) if manifest and keys.get(cell.file) == cell.key else None
            stamp = read_stamp(self.folder / cell.file, content_hash)
            if stamp is not None and stamp.get("key") == cell.key:
                present[cell.file] = stamp.get("flagged")
        return present


def batches_of(cells: Sequence[Planned], batch_size: int) -> list[list[Planned]]:
    """Batches of one size, one conditioning scale and the same parts that cannot be stacked, whole weights say.

    Columns with equally many such cells are rendered together if at least two of them fit in a batch; the cells of each
    are then consecutive. Columns that share parts that cannot be stacked are consecutive too.
    """
    order = unique(str(cell.column.fixed) for cell in cells)
    kinds: dict[Any, dict[str, list[Planned]]] = {}
    for cell in cells:
        kind = (order.index(str(cell.column.fixed)), cell.request.size, cell.request.conditioning_scale)
        kinds.setdefault(kind, {}).setdefault(cell.column.label, []).append(cell)
    batches = [batch for columns in kinds.values() for batch in _batches_of_kind(columns.values(), batch_size)]
    labels = unique(cell.column.label for cell in sorted(cells, key=lambda cell: order.index(str(cell.column.fixed))))
    return sorted(batches, key=lambda batch: labels.index(batch[0].column.label))


def _batches_of_kind(columns: Iterable[list[Planned]], batch_size: int) -> Iterator[list[Planned]]:
    by_count: dict[int, list[list[Planned]]] = {}
    for column in columns:
        by_count.setdefault(len(column), []).append(column)
    for count, group in by_count.items():
        together = max(1, batch_size // count)
        for first in range(0, len(group), together):
            cells = [cell for column in group[first : first + together] for cell in column]
            yield from (cells[start : start + batch_size] for start in range(0, len(cells), batch_size))


def stamp_of(grid: Grid, cell: Planned, flagged: bool | None) -> dict[str, Any]:
    """The stamp of a picture, for limner."""
    request = cell.request
    return {
        "key": cell.key,
        "flagged": flagged,
        "variant": cell.column.label,
        "strength": cell.column.strength,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "image_index": request.image_index,
        "size": list(request.size),
        "reference": request.reference or None,
        "conditioning_scale": request.conditioning_scale if request.reference else None,
        "sampler": grid.recipe.sampler,
        "steps": grid.recipe.steps,
        "guidance_scale": grid.recipe.guidance_scale,
    }


def parameters_of(base: Base, grid: Grid, cell: Planned) -> str:
    """The "parameters" text of a picture, for other programs."""
    column = cell.column
    return generation_parameters(
        grid.recipe,
        cell.request,
        column.fixed or (model_name(base), grid.base_hash),
        column.low_rank,
        strength=column.strength,
        clip_skip=base.clip_skip,
        control=f"{grid.control}, Weight: {cell.request.conditioning_scale:g}" if grid.control else "",
    )


def remove_strays(folder: Path, files: Mapping[str, str]) -> None:
    """Remove pictures that limner wrote in `folder` and that do not belong to the grid, and folders left empty.

    Only pictures that carry limner's stamp are touched.
    """
    for path in sorted(folder.rglob("*.png")):
        if path.relative_to(folder).as_posix() not in files and read_stamp(path) is not None:
            path.unlink()
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            path.rmdir()


def hashes_of(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file, by its path relative to `folder`."""
    return {file: hash_file(folder / file) for file in files}
