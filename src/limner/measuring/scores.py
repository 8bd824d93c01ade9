"""The table of scores while it grows: rows, anchors, models and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.artifacts import Specification
from limner.records import (
    Anchors,
    Cell,
    ControlSummary,
    HeadSquare,
    MachineRecord,
    ModelRecord,
    NearestPhoto,
    PhotoSquare,
    ScoreRow,
    ScoresManifest,
    ScoresRecord,
    Square,
)

BASE_VARIANT = "base"
DECIMALS = 6
COLUMNS = ("variant", "prompt", "reference", "seed", "image_index", "training_seed", "conditioning_scale")


@dataclass(frozen=True)
class Picture:
    """A cell to be scored and where it lies."""

    cell: Cell
    file: Path

    @property
    def comparison_key(self) -> tuple[Any, ...]:
        """What a cell shares with the base's cell that it is compared with."""
        row = self.cell.prompt if self.cell.reference is None else None  # a control cell's prompt names the subject
        return row, self.cell.reference, self.cell.conditioning_scale, self.cell.seed, self.cell.image_index


@dataclass
class ScoreSheet:
    """What scores.json will hold."""

    rows: list[ScoreRow] = field(default_factory=list)
    anchors: dict[str, Anchors] = field(default_factory=dict)
    models: dict[str, ModelRecord] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    control: list[ControlSummary] = field(default_factory=list)
    nearest_photos: list[NearestPhoto] = field(default_factory=list)
    head_squares: list[HeadSquare] = field(default_factory=list)
    photo_squares: list[PhotoSquare] = field(default_factory=list)

    def record(self, specification: Specification, made: MachineRecord) -> ScoresRecord:
        """The scores as they lie on disk, with what they follow from."""
        manifest = ScoresManifest(
            stage=specification.stage,
            version=specification.version,
            record_version=ScoresRecord.RECORD_VERSION,
            key=specification.key,
            settings=specification.settings,
            inputs=specification.inputs,
            made=made,
        )
        return ScoresRecord(
            rows=self.rows,
            anchors=self.anchors,
            models=self.models,
            notes=self.notes,
            control=self.control,
            nearest_photos=self.nearest_photos,
            head_squares=self.head_squares,
            photo_squares=self.photo_squares,
            manifest=manifest,
        )

    def add(
        self, metric: str, pictures: Sequence[Picture], values: Sequence[float], photos: Sequence[str] = ()
    ) -> None:
        """One row for each picture; `photos` names for each the photo that it is nearest to."""
        for picture, value in zip(pictures, values, strict=True):
            self.rows.append(ScoreRow(**_columns(picture), metric=metric, value=round(float(value), DECIMALS)))
        for picture, photo in zip(pictures, photos, strict=bool(photos)):
            self.nearest_photos.append(NearestPhoto(**_columns(picture), metric=metric, photo=photo))

    def mark(self, pictures: Sequence[Picture], squares: Sequence[Square | None]) -> None:
        """Where the head lies in each picture that likeness compares by heads; None where there is none."""
        for picture, square in zip(pictures, squares, strict=True):
            self.head_squares.append(HeadSquare(**_columns(picture), square=square))

    def mark_photos(self, files: Sequence[Path], squares: Sequence[Square | None]) -> None:
        """The same of the photos."""
        for file, square in zip(files, squares, strict=True):
            self.photo_squares.append(PhotoSquare(photo=file.name, square=square))

    def anchor(self, metric: str, low: float | None, top: float | None, note: str, **more: Any) -> None:
        """What a metric's values are to be seen against."""
        self.anchors[metric] = Anchors(ceiling=top, floor=low, note=note, **more)

    def use(self, metric: str, name: str, note: str = "") -> None:
        """Name the model behind a metric."""
        self.models[metric] = ModelRecord(name=name, status="used", note=note)

    def leave_out(self, metric: str, name: str, reason: str) -> None:
        """Name a metric that cannot be had, and why."""
        self.models[metric] = ModelRecord(name=name, status="left out", note=reason)
        self.notes.append(f"{metric} is left out: {reason}")


def _columns(picture: Picture) -> dict[str, Any]:
    return {column: getattr(picture.cell, column) for column in COLUMNS}


def control_summary(rows: Sequence[ScoreRow]) -> list[ControlSummary]:
    """Conditioned pictures by variant and conditioning scale: how many, and the mean of each metric."""
    groups: dict[tuple[str, float], list[ScoreRow]] = {}
    for row in rows:
        if row.reference is not None and row.conditioning_scale is not None:
            groups.setdefault((row.variant, row.conditioning_scale), []).append(row)
    return [
        ControlSummary(
            variant=variant,
            conditioning_scale=scale,
            pictures=len({(row.reference, row.seed, row.image_index) for row in group}),
            means={metric: _mean(_values(group, metric)) for metric in metrics},
        )
        for (variant, scale), group in groups.items()
        for metrics in [dict.fromkeys(row.metric for row in group)]
    ]


def _values(rows: Sequence[ScoreRow], metric: str) -> list[float]:
    return [row.value for row in rows if row.metric == metric and row.value is not None]


def share_above(pictures: Sequence[Picture], values: Sequence[float], limit: float) -> dict[str, float]:
    """By variant, the share of its pictures whose value is above `limit`."""
    by_variant: dict[str, list[float]] = {}
    for picture, value in zip(pictures, values, strict=True):
        by_variant.setdefault(picture.cell.variant, []).append(float(value > limit))
    return {variant: _mean(above) for variant, above in by_variant.items()}


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), DECIMALS)


def base_mean(pictures: Sequence[Picture], values: Sequence[float]) -> float | None:
    """Mean over the untouched base's renders; over its conditioned ones where there are no others."""
    of_base = [(p, v) for p, v in zip(pictures, values, strict=True) if p.cell.variant == BASE_VARIANT]
    chosen = [value for picture, value in of_base if picture.cell.reference is None] or [v for _, v in of_base]
    return _mean(chosen) if chosen else None


def pairs_with_base(pictures: Sequence[Picture]) -> list[tuple[int, int]]:
    """For each picture that has one, its index in `pictures` and that of the base's of the same prompt (or reference
    and scale), seed and image."""
    of_base = {p.comparison_key: index for index, p in enumerate(pictures) if p.cell.variant == BASE_VARIANT}
    return [
        (index, of_base[p.comparison_key])
        for index, p in enumerate(pictures)
        if p.cell.variant != BASE_VARIANT and p.comparison_key in of_base
    ]
