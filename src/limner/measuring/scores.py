"""The table of scores while it grows: rows, anchors, models and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.artifacts import Cell

BASE_VARIANT = "base"
DECIMALS = 6
COLUMNS = ("variant", "prompt", "reference", "seed", "image_index", "training_seed", "conditioning_scale")


@dataclass(frozen=True)
class Picture:
    """A cell to be scored and where it lies."""

    cell: Cell
    file: Path

    @property
    def place(self) -> tuple[Any, ...]:
        """What a cell shares with the base's cell that it is compared with."""
        row = self.cell.prompt if self.cell.reference is None else None  # a control cell's prompt names the subject
        return row, self.cell.reference, self.cell.conditioning_scale, self.cell.seed, self.cell.image_index


@dataclass
class Scores:
    """What scores.json will hold."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    anchors: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """The scores as they lie on disk."""
        return {"rows": self.rows, "anchors": self.anchors, "models": self.models, "notes": self.notes}

    def add(self, metric: str, pictures: Sequence[Picture], values: Sequence[float]) -> None:
        """One row for each picture."""
        for picture, value in zip(pictures, values, strict=True):
            row = {column: getattr(picture.cell, column) for column in COLUMNS}
            self.rows.append({**row, "metric": metric, "value": round(float(value), DECIMALS)})

    def anchor(self, metric: str, low: float | None, top: float | None, note: str, **more: Any) -> None:
        """What a metric's values are to be seen against."""
        self.anchors[metric] = {"ceiling": top, "floor": low, "note": note, **more}

    def use(self, metric: str, name: str, note: str = "") -> None:
        """Name the model behind a metric."""
        self.models[metric] = {"name": name, "status": "used", "note": note}

    def leave_out(self, metric: str, name: str, reason: str) -> None:
        """Name a metric that cannot be had, and why."""
        self.models[metric] = {"name": name, "status": "left out", "note": reason}
        self.notes.append(f"{metric} is left out: {reason}")


def base_mean(pictures: Sequence[Picture], values: Sequence[float]) -> float | None:
    """Mean over the untouched base's renders; over its conditioned ones where there are no others."""
    of_base = [(p, v) for p, v in zip(pictures, values, strict=True) if p.cell.variant == BASE_VARIANT]
    chosen = [value for picture, value in of_base if picture.cell.reference is None] or [v for _, v in of_base]
    return round(sum(chosen) / len(chosen), DECIMALS) if chosen else None


def gains(pictures: Sequence[Picture], values: Sequence[float]) -> list[tuple[Picture, float]]:
    """Each value minus that of the base's picture of the same prompt (or reference and scale), seed and image.

    The base itself, and pictures whose counterpart is not there, have none.
    """
    pairs = list(zip(pictures, values, strict=True))
    of_base = {picture.place: value for picture, value in pairs if picture.cell.variant == BASE_VARIANT}
    return [
        (picture, value - of_base[picture.place])
        for picture, value in pairs
        if picture.cell.variant != BASE_VARIANT and picture.place in of_base
    ]
