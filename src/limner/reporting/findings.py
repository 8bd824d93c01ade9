"""What the scores say: per picture, per column, against the base and between the anchors. Nothing is filled in.

A row's metric is a registered metric's name, a slash and a model: `likeness/facebook/dinov2-small` is a likeness. Of a
metric that several models measure, the first that has values stands under the pictures; the others have columns in
tables. Gains are taken here, from the values of the two pictures, so rows of gains are not read.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from limner.artifacts import Cell, ScoreTable, unique
from limner.metrics import ShownAt, metric_named, metrics_shown, role_of
from limner.records import PictureKey, Square
from limner.reporting.columns import Column

BASE_MODEL = "base"  # what measures with the base's own CLIP is called so

NOT_MEASURABLE = "not measurable"

CellKey = tuple[str, str, str | None, int, int, float | None]


@dataclass(frozen=True)
class PictureSpread:
    """Mean and standard deviation (over n - 1) of some pictures' values."""

    mean: float
    deviation: float | None
    count: int
    decimals: int = 3

    def __str__(self) -> str:
        around = "" if self.deviation is None else f" ± {self.deviation:.{self.decimals}f}"
        return f"{signless(self.mean, self.decimals)}{around}"


@dataclass(frozen=True)
class ColumnScores:
    """One row of the table of scores: a column's values over its pictures."""

    column: Column
    count: int
    values: dict[str, PictureSpread | None]
    gains: dict[str, PictureSpread | None]  # of every metric that has gains
    shares: dict[str, float | None]  # of the same: where its mean lies between floor and ceiling

    @property
    def gain(self) -> PictureSpread | None:
        """The gain by the metric that stands under the pictures."""
        return next(iter(self.gains.values()), None)


def signless(value: float, decimals: int = 3) -> str:
    """So many decimals with a true minus sign, none before a zero."""
    return f"{value:z.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int = 3) -> str:
    """So many decimals that carry their sign unless they are zero."""
    written = f"{value:+z.{decimals}f}"
    return (written if float(written) else written.removeprefix("+")).replace("-", "−")


def percent(share: float | None) -> str:
    """A share in whole percent."""
    return NOT_MEASURABLE if share is None else f"{share:z.0%}".replace("-", "−")


def spread(values: Iterable[float | None], decimals: int = 3) -> PictureSpread | None:
    """Mean and spread of the values that are there; None when none is."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return PictureSpread(
        statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known), decimals
    )


class PictureScores:
    """`scores.json`, found by picture."""

    def __init__(self, table: ScoreTable) -> None:
        self.record = table.record
        self._values: dict[CellKey, dict[str, float | None]] = {}
        self._photos: dict[tuple[CellKey, str], str] = {}
        for row in table.rows:
            self._values.setdefault(_row_key(row), {})[row.metric] = row.value
        for row in self.record.nearest_photos:
            self._photos[_row_key(row), row.metric] = row.photo
        self._squares = {_row_key(row): row.square for row in self.record.head_squares}
        self.photo_squares = {row.photo: row.square for row in self.record.photo_squares}

    @property
    def marks_heads(self) -> bool:
        """Whether likeness compares heads, and where they are is known."""
        return bool(self._squares)

    @property
    def headless(self) -> int:
        """How many pictures show no head, where heads are compared."""
        return sum(square is None for square in self._squares.values())

    def square(self, cell: Cell) -> Square | None:
        """Left, top, right and lower edge in px of what likeness compares of a picture; None for all of it."""
        return self._squares.get(cell_key(cell))

    def has_likeness(self, cell: Cell) -> bool:
        """Whether a picture has a value by a metric that compares with the photos' heads."""
        return any(self.value(cell, metric) is not None for metric in self.with_gains)

    def lacks_head(self, cell: Cell) -> bool:
        """Whether a picture is compared whole although heads are compared, because it shows none."""
        return cell_key(cell) in self._squares and self.square(cell) is None

    @cached_property
    def metrics(self) -> Sequence[str]:
        """All metrics, in the order in which they are named: those with rows, then those without any."""
        named = [row.metric for row in self.record.rows if row.value is not None]
        empty = [row.metric for row in self.record.rows]
        listed = unique([*named, *empty, *self.record.models, *self.record.anchors])
        return [metric for metric in listed if "tables" in metric_named(metric).shown]

    @cached_property
    def with_gains(self) -> list[str]:
        """All metrics whose gain over the base stands beside them."""
        return [metric for metric in self.metrics if metric_named(metric).has_gain]

    def first(self, name: str) -> str | None:
        """A registered metric by the first model that measured it."""
        return next((metric for metric in self.metrics if role_of(metric) == name), None)

    def first_shown(self, shown_at: ShownAt) -> str | None:
        """The first metric that is shown at a place."""
        return next((first for metric in metrics_shown(shown_at) if (first := self.first(metric.name))), None)

    def value(self, cell: Cell, metric: str | None, variant: str | None = None) -> float | None:
        """A picture's value, or that of `variant`'s picture of the same row, seed and image."""
        return self._values.get(cell_key(cell, variant), {}).get(metric) if metric else None

    def photo(self, cell: Cell, metric: str | None) -> str | None:
        """The photo that a picture's value is about, where the scores name it."""
        return self._photos.get((cell_key(cell), metric)) if metric else None

    def gain(self, cell: Cell, metric: str | None, base: str = "base") -> float | None:
        """A picture's value less that of the base's picture of the same row and seed."""
        value, other = self.value(cell, metric), self.value(cell, metric, base)
        return None if value is None or other is None or cell.variant == base else value - other

    def anchor(self, metric: str | None, name: Literal["ceiling", "floor"]) -> float | None:
        """`ceiling` or `floor` of a metric, where it could be measured."""
        anchors = self.record.anchors.get(metric) if metric else None
        return getattr(anchors, name) if anchors else None

    def share(self, metric: str | None, mean: float | None) -> float | None:
        """Where a mean lies between floor (0) and ceiling (1)."""
        ceiling, floor = self.anchor(metric, "ceiling"), self.anchor(metric, "floor")
        if mean is None or ceiling is None or floor is None or ceiling <= floor:
            return None
        return (mean - floor) / (ceiling - floor)

    def findings(
        self, columns: Sequence[Column], cells: Sequence[Cell], keep: Callable[[Cell], bool] = lambda _: True
    ) -> list[ColumnScores]:
        """One row a column that has pictures among `cells`."""
        chosen = [(c, [x for x in cells if x.variant in c.labels and keep(x)]) for c in columns]
        return [self._finding(column, chosen_cells) for column, chosen_cells in chosen if chosen_cells]

    def _finding(self, column: Column, cells: Sequence[Cell]) -> ColumnScores:
        decimals = {m: metric_named(m).decimals for m in self.metrics}
        values = {m: spread((self.value(cell, m) for cell in cells), decimals[m]) for m in self.metrics}
        gains = {m: spread((self.gain(cell, m) for cell in cells), decimals[m]) for m in self.with_gains}
        shares = {m: self.share(m, mean.mean) if (mean := values[m]) else None for m in self.with_gains}
        return ColumnScores(column, len(cells), values, gains, shares)


def model_of(metric: str) -> str:
    """The short name of the model that a metric is measured with; empty where there is none."""
    return metric[len(role_of(metric)) :].rpartition("/")[2]


def is_from_base(metric: str) -> bool:
    """Whether a metric is measured from the base's picture, which has none of its own."""
    return metric_named(metric).from_base


def metric_title(metric: str, *, several: bool = False) -> str:
    """A metric's name as a heading; with its model where several measure it."""
    title, model = metric_named(metric).words["en"].title, model_of(metric)
    return f"{title}, {model}" if several and model else title


def cell_key(cell: Cell, variant: str | None = None) -> CellKey:
    """What finds a picture's scores."""
    row = "" if cell.reference is not None else cell.prompt
    return (
        variant or cell.variant,
        row,
        cell.reference,
        cell.seed,
        cell.image_index,
        cell.conditioning_scale,
    )


def _row_key(row: PictureKey) -> CellKey:
    name = "" if row.reference is not None else row.prompt
    return row.variant, name, row.reference, row.seed, row.image_index, row.conditioning_scale
