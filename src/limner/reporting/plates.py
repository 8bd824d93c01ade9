"""The tables of pictures, prompts x variants and references x variants; a row is one seed, the same in every column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from limner.artifacts import Cell, RenderSet
from limner.metrics import metrics_shown
from limner.records import ControlReferenceRecord
from limner.reporting.columns import BASE, Column, number
from limner.reporting.findings import NOT_MEASURABLE, PictureScores, signed, signless
from limner.reporting.pictures import Gallery
from limner.reporting.squares import WHOLE, Square, square_in


class RowKey(NamedTuple):
    """What sets a row of one prompt or reference off from the others."""

    seed: int
    image_index: int
    conditioning_scale: float | None
    training_seed: int | None


@dataclass(frozen=True)
class Figure:
    """One value under a picture, with its gain over the base's picture where the metric has one."""

    name: str  # the metric
    label: str
    value: float | None
    gain: float | None
    required: bool  # said to be missing where it could have been measured
    decimals: int

    @property
    def written(self) -> str:
        """The value as it is shown."""
        return NOT_MEASURABLE if self.value is None else signless(self.value, self.decimals)

    @property
    def written_gain(self) -> str:
        """The gain as it is shown; empty where there is none."""
        return "" if self.gain is None else signed(self.gain, self.decimals)


@dataclass(frozen=True)
class Shown:
    """One picture of a plate with what is said of it; `file` is None where the picture is not shown."""

    file: str
    alt: str
    column: Column
    caption: str
    figures: tuple[Figure, ...]
    flagged: bool
    size: tuple[int, int]
    square: Square | None = None
    """What likeness compares of it, where that is not all of it."""
    note: str = ""
    """What a reader has to know of its likeness."""


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

    @cached_property
    def measured(self) -> set[str]:
        """The metrics that are known of any picture; not every metric is asked of every prompt."""
        figures = (figure for row in self.rows for shown in row.cells if shown for figure in shown.figures)
        return {figure.name for figure in figures if figure.value is not None}


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

    @cached_property
    def measured(self) -> set[str]:
        """The metrics that are known of any picture."""
        return set().union(*(group.measured for group in self.groups))

    def said(self, group: Group, shown: Shown) -> list[Figure]:
        """What stands under a picture: what was measured, and what is missing though its prompt asks for it.

        A required metric that no picture of the plate has is missing under each.
        """
        known, of_group = self.measured, group.measured
        return [
            figure
            for figure in shown.figures
            if figure.value is not None or (figure.required and (figure.name in of_group or figure.name not in known))
        ]

    @property
    def pictures(self) -> int:
        """How many pictures stand in it."""
        return sum(shown is not None for group in self.groups for row in group.rows for shown in row.cells)


def make_plate(
    rendered: RenderSet, columns: Sequence[Column], scores: PictureScores, gallery: Gallery, kind: str
) -> Plate:
    """Lay a set of renders out; `kind` ("renders" or "control") is the folder of its pictures beside the page."""
    cells = rendered.cells
    present = [column for column in columns if any(cell.variant in column.labels for cell in cells)]

    def show(cell: Cell, column: Column, name: str) -> Shown:
        file = gallery.add(rendered.path(cell), f"{kind}/{cell.file}")
        return make_shown(cell, column, name, file, scores)

    references = {entry.name: entry for entry in rendered.references}
    by_name: dict[str, list[Cell]] = {}
    for cell in cells:
        by_name.setdefault(_group_name(cell), []).append(cell)
    groups = [_group(name, group_cells, present, show) for name, group_cells in by_name.items()]
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
    trained = [cell for cell in cells if cell.training_seed is not None]
    said = next((cell for cell in cells if cell.variant != BASE), cells[0])
    swept = len({cell.training_seed for cell in trained}) > 1
    by_row = {(cell.variant, _row_key(cell, swept)): cell for cell in cells}
    keys = sorted({_row_key(cell, swept) for cell in trained or cells}, key=_row_order(cells))
    rows = []
    for index, key in enumerate(keys):
        picked = [_pick(by_row, column, key, keys[:index]) for column in columns]
        shown = [show(cell, column, name) if cell else None for cell, column in zip(picked, columns, strict=True)]
        rows.append(Row(_row_title(key, keys), shown))
    base_text = next((cell.text for cell in cells if cell.variant == BASE), "")
    differs = base_text if base_text != said.text else ""
    return Group(name, said.text or said.prompt, differs, said.negative_prompt, rows)


def _row_key(cell: Cell, swept: bool) -> RowKey:
    """What one row shows; the training seed only counts in a sweep over several."""
    training_seed = cell.training_seed if swept else None
    return RowKey(cell.seed, cell.image_index, cell.conditioning_scale, training_seed)


def _row_order(cells: Sequence[Cell]) -> Callable[[RowKey], tuple[float, ...]]:
    """Seeds in the study's order, then images, conditioning scales, training seeds."""
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return lambda key: (
        seeds.index(key.seed),
        key.image_index,
        -1.0 if key.conditioning_scale is None else key.conditioning_scale,
        -1 if key.training_seed is None else key.training_seed,
    )


def _pick(
    by_row: dict[tuple[str, RowKey], Cell], column: Column, key: RowKey, earlier: Sequence[RowKey]
) -> Cell | None:
    """The column's cell in a row.

    One that was not trained here (the base, a given LoRA) stands in the first of the rows that differ by training seed.
    """
    cell = next((cell for label in column.labels if (cell := by_row.get((label, key)))), None)
    without_training_seed = key._replace(training_seed=None)
    if cell or any(other._replace(training_seed=None) == without_training_seed for other in earlier):
        return cell
    return next((cell for label in column.labels if (cell := by_row.get((label, without_training_seed)))), None)


def _row_title(key: RowKey, keys: Sequence[RowKey]) -> str:
    """What sets this row off from the group's others; its seed always."""
    parts = [f"seed {key.seed}"]
    if any(other.image_index for other in keys):
        parts.append(f"image {key.image_index + 1}")
    scale = key.conditioning_scale
    if scale is not None and (scale != 1.0 or any(other.conditioning_scale != scale for other in keys)):
        parts.append(f"conditioning scale {number(scale)}")
    if key.training_seed is not None:
        parts.append(f"training seed {key.training_seed}")
    return ", ".join(parts)


def make_shown(cell: Cell, column: Column, name: str, file: str, scores: PictureScores) -> Shown:
    """A picture with what is said of it; `name` is that of its prompt or reference."""
    seed = f"seed {cell.seed}" + (f", image {cell.image_index + 1}" if cell.image_index else "")
    return Shown(
        file=file,
        alt=f"{column.name}, {name}, {seed}: {cell.text or cell.prompt}",
        column=column,
        caption=f"{column.name} · {name} · {seed}",
        figures=tuple(_figures(cell, scores)),
        flagged=bool(cell.flagged),
        size=cell.size if all(cell.size) else (1, 1),
        square=square_in(scores.square(cell), cell.size),
        note=WHOLE if scores.lacks_head(cell) and scores.has_likeness(cell) else "",
    )


def _figures(cell: Cell, scores: PictureScores) -> Iterator[Figure]:
    for metric in metrics_shown("pictures"):
        name = scores.first(metric.name)
        gain = scores.gain(cell, name) if metric.has_gain else None
        yield Figure(
            metric.name, metric.words["en"].short, scores.value(cell, name), gain, metric.required, metric.decimals
        )


def _with_reference(group: Group, entry: ControlReferenceRecord | None, folder: Path, gallery: Gallery) -> Group:
    if entry is None:
        return group
    image, edges = (
        gallery.add(folder / file, f"control/conditioning/{Path(file).name}") for file in (entry.image, entry.canny)
    )
    return replace(group, reference=image, edges=edges)
