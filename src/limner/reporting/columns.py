"""The columns of every table: the untouched base, then each variant, with the colour and marker it keeps throughout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from limner.artifacts import Cell
from limner.config import Study, VariantRun, expand_variants

BASE = "base"
MARKERS = ("diamond", "circle", "triangle", "pentagon", "star")
DASHES = (None, "10 3", "5 3", "2 3", "10 3 2 3")
GREY = ("#5f636c", "#a4a7ae")
# per family of variants: (first, last) on light paper and (first, last) on dark; at least 3:1 on their ground,
# distinguished by lightness and marker as well as hue
RAMPS = (
    (("#c2512f", "#8f2a12"), ("#d9765a", "#f5ad97")),
    (("#5b94c9", "#12345f"), ("#4f86bb", "#c2ddf6")),
    (("#2f9a7c", "#0a4f3d"), ("#3f9a7f", "#a9e6d0")),
    (("#b5831a", "#6b4a00"), ("#b98d30", "#f4d891")),
    (("#a56bb0", "#5a2266"), ("#a276ac", "#e6c8ec")),
)


@dataclass(frozen=True)
class Column:
    """One way of painting the subject: the base or a variant at one strength, with all its training seeds."""

    name: str
    detail: str
    labels: tuple[str, ...]  # variant labels of the cells that stand in it, one a training seed
    light: str = GREY[0]
    dark: str = GREY[1]
    marker: str = "square"
    family: int | None = None  # index of the study's variant; None for the base
    rank: int | None = None
    strength: float = 1.0
    dashes: str | None = None  # of its lines, by which ranks are distinguished without colour

    @property
    def is_base(self) -> bool:
        """Whether this is the untouched base."""
        return self.name == BASE


def make_columns(study: Study, cells: Iterable[Cell]) -> list[Column]:
    """Group the cells' variants into columns, in the order in which they first occur."""
    runs = {run.label: run for run in expand_variants(study.variants)}
    strengths = {cell.variant: cell.lora_scale for cell in cells}
    groups: dict[str, list[str]] = {}
    for label, strength in strengths.items():
        run = run_of(label, runs)
        groups.setdefault(_column_name(label, run, strength), []).append(label)
    columns = [_column(name, labels, runs, study, strengths[labels[0]]) for name, labels in groups.items()]
    return sorted(columns, key=lambda column: not column.is_base)


def run_of(label: str, runs: dict[str, VariantRun]) -> VariantRun | None:
    """The run that made a cell's adapter: its label, or its label before `xSCALE`."""
    return runs.get(label) or runs.get(label.rpartition("x")[0])


def colour_ramp(family: int, index: int, count: int) -> tuple[str, str]:
    """Colour number `index` of `count` in a family, on light and on dark ground; a single one takes the ramp's end."""
    share = 1.0 if count < 2 else index / (count - 1)
    light, dark = RAMPS[family % len(RAMPS)]
    return _between(*light, share), _between(*dark, share)


def number(value: float) -> str:
    """A number without needless digits: 1, 0.5, 0.0001, 2e-06."""
    return f"{value:g}"


def _column_name(label: str, run: VariantRun | None, strength: float | None) -> str:
    if run is None:
        return label
    stem = run.label.removesuffix(f"@{run.training_seed}")
    return stem if strength in (None, 1.0) else f"{stem} × {number(strength)}"


def _column(name: str, labels: list[str], runs: dict[str, VariantRun], study: Study, strength: float | None) -> Column:
    run = run_of(labels[0], runs)
    if run is None:
        return _column_made_elsewhere(name, labels, study, strength)
    family = study.variants.index(run.variant)
    points = run.method.points(run.variant)
    index = points.index(run.point)
    light, dark = colour_ramp(family, index, len(points))
    marker = MARKERS[family % len(MARKERS)]
    dashes = DASHES[(len(points) - 1 - index) % len(DASHES)]  # the last one's line of a sweep is whole
    return Column(
        name,
        _detail(run, strength),
        tuple(labels),
        light,
        dark,
        marker,
        family,
        run.rank,
        1.0 if strength is None else strength,
        dashes,
    )


def _column_made_elsewhere(name: str, labels: list[str], study: Study, strength: float | None) -> Column:
    """The column of the untouched base, or of a LoRA that was made elsewhere, in a colour after the variants'."""
    stem = name if strength in (None, 1.0) else name.rpartition("x")[0]
    index = next((index for index, each in enumerate(study.adapters) if each.name == stem), None)
    if index is None:
        return Column(name, "untouched" if name == BASE else "", tuple(labels))
    family, adapter = len(study.variants) + index, study.adapters[index]
    light, dark = colour_ramp(family, 0, 1)
    how = f", strength {number(adapter.strength * (strength or 1.0))}"
    detail = f"{adapter.file.name}{how if adapter.strength * (strength or 1.0) != 1 else ''}"
    marker = MARKERS[family % len(MARKERS)]
    return Column(name, detail, tuple(labels), light, dark, marker, family, strength=strength or 1.0)


def _detail(run: VariantRun, strength: float | None) -> str:
    start = f", on {run.start_from}" if run.start_from else ""
    strong = "" if strength in (None, 1.0) else f", strength {number(strength)}"
    return f"{run.method.detail(run)}{strong}{start}"


def _between(first: str, last: str, share: float) -> str:
    pairs = [(int(first[i : i + 2], 16), int(last[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
