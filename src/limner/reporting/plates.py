"""The tables of pictures, prompts x variants and references x variants; a row is one seed, the same in every column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limner.artifacts import Cell, RenderSet, unique
from limner.reporting.columns import Column, number
from limner.reporting.findings import EDGES, LIKENESS, PROMPT_FIDELITY, Scores
from limner.reporting.pictures import Gallery

RowKey = tuple[Any, ...]


@dataclass(frozen=True)
class Shown:
    """One picture of a plate with what is said of it; `file` is None where the picture is not shown."""

    file: str
    alt: str
    column: Column
    caption: str
    likeness: float | None
    gain: float | None
    prompt_fidelity: float | None
    edge_agreement: float | None
    flagged: bool


@dataclass(frozen=True)
class Row:
    """One seed, image, training seed and conditioning scale: a picture, or None, for each column."""

    title: str
    cells: list[Shown | None]


@dataclass(frozen=True)
class Group:
    """A prompt or a reference with its rows."""

    name: str
    text: str
    class_text: str
    negative_prompt: str
    rows: list[Row]
    reference: str | None = None  # files of the reference and of its edges
    edges: str | None = None


@dataclass(frozen=True)
class Plate:
    """A table of pictures."""

    columns: list[Column]
    groups: list[Group]
    flagged: int = 0
    checked: bool = False

    @property
    def has_references(self) -> bool:
        """Whether the rows begin with a reference and its edges."""
        return any(group.reference for group in self.groups)

    @property
    def pictures(self) -> int:
        """How many pictures stand in it."""
        return sum(shown is not None for group in self.groups for row in group.rows for shown in row.cells)


def make_plate(rendered: RenderSet, columns: Sequence[Column], scores: Scores, gallery: Gallery, kind: str) -> Plate:
    """Lay a set of renders out; `kind` ("renders" or "control") is the folder of its pictures beside the page."""
    cells = rendered.cells
    present = [column for column in columns if any(cell.variant in column.labels for cell in cells)]

    def show(cell: Cell, column: Column, name: str) -> Shown:
        file = gallery.add(rendered.path(cell), f"{kind}/{cell.file}")
        return _shown(cell, column, name, file, scores)

    names = unique(_group_name(cell) for cell in cells)
    references = {entry["name"]: entry for entry in rendered.manifest.content.get("references", [])}
    groups = [_group(name, cells, present, show) for name in names]
    if references:
        groups = [_with_reference(g, references.get(g.name), rendered.folder, gallery) for g in groups]
    flags = [cell.flagged for cell in cells]
    return Plate(list(present), groups, sum(map(bool, flags)), any(flag is not None for flag in flags))


def _group_name(cell: Cell) -> str:
    return cell.prompt if cell.reference is None else cell.reference


def _group(
    name: str,
    cells: Sequence[Cell],
    columns: Sequence[Column],
    show: Callable[[Cell, Column, str], Shown],
) -> Group:
    own = [cell for cell in cells if _group_name(cell) == name]
    trained = [cell for cell in own if cell.variant != "base"]
    untrained = [cell for cell in own if cell.variant == "base"]
    keys = list(dict.fromkeys(_row_key(cell, own) for cell in trained or own))
    rows = [
        Row(_row_title(key, keys), [_find(own, column, key, keys, show, name) for column in columns]) for key in keys
    ]
    said = (trained or own)[0]
    base_text = untrained[0].text if untrained else ""
    differs = base_text if base_text != said.text else ""
    return Group(name, said.text or said.prompt, differs, said.negative_prompt, rows)


def _row_key(cell: Cell, cells: Sequence[Cell]) -> RowKey:
    """Seed, image, conditioning scale and, in a sweep over training seeds, that too."""
    return (cell.seed, cell.image_index, cell.conditioning_scale, _training_place(cell, cells))


def _training_place(cell: Cell, cells: Sequence[Cell]) -> int | None:
    seeds = {other.training_seed for other in cells if other.training_seed is not None}
    return cell.training_seed if len(seeds) > 1 else None


def _find(
    cells: Sequence[Cell],
    column: Column,
    key: RowKey,
    keys: Sequence[RowKey],
    show: Callable[[Cell, Column, str], Shown],
    name: str,
) -> Shown | None:
    """The column's picture in a row; the base, which has no training seed, stands in the first row of its seed only."""
    for cell in cells:
        if cell.variant not in column.labels:
            continue
        own = _row_key(cell, cells)
        first = next(other for other in keys if other[:3] == key[:3])
        if own == key or (cell.variant == "base" and own[:3] == key[:3] and key == first):
            return show(cell, column, name)
    return None


def _row_title(key: RowKey, keys: Sequence[RowKey]) -> str:
    """What sets this row off from the group's others; its seed always."""
    seed, image, scale, training_seed = key
    parts = [f"seed {seed}"]
    if any(other[1] for other in keys):
        parts.append(f"image {image + 1}")
    if len({other[2] for other in keys}) > 1 or scale not in (None, 1.0):
        parts.append(f"conditioning scale {number(scale or 0.0)}")
    if training_seed is not None:
        parts.append(f"training seed {training_seed}")
    return ", ".join(parts)


def _shown(cell: Cell, column: Column, name: str, file: str, scores: Scores) -> Shown:
    seed = f"seed {cell.seed}" + (f", image {cell.image_index + 1}" if cell.image_index else "")
    likeness = scores.metric(LIKENESS)
    return Shown(
        file=file,
        alt=f"{column.name}, {name}, {seed}: {cell.text or cell.prompt}",
        column=column,
        caption=f"{column.name} · {name} · {seed}",
        likeness=scores.value(cell, likeness),
        gain=scores.gain(cell, likeness),
        prompt_fidelity=scores.value(cell, scores.metric(PROMPT_FIDELITY)),
        edge_agreement=scores.value(cell, scores.metric(EDGES)),
        flagged=bool(cell.flagged),
    )


def _with_reference(group: Group, entry: dict[str, Any] | None, folder: Path, gallery: Gallery) -> Group:
    if entry is None:
        return group
    files = {}
    for part in ("image", "canny"):
        source = folder / entry[part]
        files[part] = gallery.add(source, f"control/conditioning/{source.name}")
    return replace(group, reference=files["image"], edges=files["canny"])
