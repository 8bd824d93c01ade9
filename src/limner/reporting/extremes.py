"""The renders that are most and least like the subject, and for those that repeat a photo that photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.artifacts import Cell, RenderSet
from limner.metrics import metrics_shown
from limner.records import PhotoRecord
from limner.reporting.columns import Column
from limner.reporting.findings import PictureScores
from limner.reporting.pictures import Gallery
from limner.reporting.plates import Shown, make_shown

SHOWN = 10  # of each


@dataclass(frozen=True)
class Copied:
    """The training photo that a render repeats; `file` is None where the scores do not say which."""

    similarity: float
    limit: float
    file: str | None
    source: str


@dataclass(frozen=True)
class Ranked:
    """A render with its rank by likeness: 1 is the most alike."""

    ranking: int
    shown: Shown
    likeness: float | None
    gain: float | None
    prompt: str
    seed: str
    copied: Copied | None


@dataclass(frozen=True)
class Extremes:
    """The most alike, the most first, and the least alike, the least first, of `count` renders."""

    most: list[Ranked]
    least: list[Ranked]
    count: int


def extremes(
    rendered: RenderSet, fit: Sequence[Cell], columns: Sequence[Column], scores: PictureScores, gallery: Gallery,
    photos: Sequence[PhotoRecord],
) -> Extremes | None:  # fmt: skip
    """Of the variants' renders among `fit`; None where fewer than two have a likeness. No render is in both lists.

    Renders without a head do not rank with the others: of them something else is compared.
    """
    ranked_by = _ranked_by(scores)
    by_label = {label: column for column in columns if not column.is_base for label in column.labels}
    known = [
        (value, cell)
        for cell in fit
        if cell.variant in by_label
        and not cell.flagged
        and not scores.lacks_head(cell)
        and (value := scores.value(cell, ranked_by)) is not None
    ]
    if len(known) < 2:
        return None
    ordered = [cell for _, cell in sorted(known, key=lambda pair: -pair[0])]

    def ranked(ranking: int) -> Ranked:
        cell = ordered[ranking - 1]
        file = gallery.add(rendered.path(cell), f"renders/{cell.file}")
        shown = make_shown(cell, by_label[cell.variant], cell.prompt, file, scores)
        value, gain = scores.value(cell, ranked_by), scores.gain(cell, ranked_by)
        return Ranked(ranking, shown, value, gain, cell.prompt, _seed(cell), copied(cell, scores, photos))

    many = min(SHOWN, len(ordered) // 2)
    least = range(len(ordered), len(ordered) - many, -1)
    return Extremes([ranked(ranking) for ranking in range(1, many + 1)], [ranked(p) for p in least], len(ordered))


def _ranked_by(scores: PictureScores) -> str | None:
    """The metric by which pictures are ranked: of those shown here the one that counts nothing over a limit."""
    names = [metric.name for metric in metrics_shown("extremes") if metric.limit is None]
    return next((first for name in names if (first := scores.first(name))), None)


def copied(cell: Cell, scores: PictureScores, photos: Sequence[PhotoRecord]) -> Copied | None:
    """The nearest photo of a render that is nearer to it than any two photos are to each other."""
    names = [metric.name for metric in metrics_shown("extremes") if metric.limit is not None]
    metric = next((first for name in names if (first := scores.first(name))), None)
    value, limit = scores.value(cell, metric), scores.anchor(metric, "ceiling")
    if value is None or limit is None or value <= limit:
        return None
    name = scores.photo(cell, metric)
    photo = next((each for each in photos if name and each.file.rpartition("/")[2] == name), None)
    return Copied(value, limit, photo.file if photo else None, photo.source if photo else "")


def _seed(cell: Cell) -> str:
    parts = [f"seed {cell.seed}"]
    if cell.image_index:
        parts.append(f"image {cell.image_index + 1}")
    if cell.training_seed is not None and "@" in cell.variant:
        parts.append(f"training seed {cell.training_seed}")
    return ", ".join(parts)
