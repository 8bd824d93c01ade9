"""What `check` measured, one file a part, so that parts may be measured at different times and on different machines.

A record is of the weights and of the settings that it was measured with, and counts only for a family that has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from limner.artifacts import canonical_json, hash_bytes, hash_file
from limner.base.find import BaseLocation
from miniature.files import read_json, write_json
from miniature.individuals import NAMES
from miniature.rows import Row, row_from_json

TABLES: Mapping[str, tuple[str, ...]] = {
    "vae": (),
    "pair": (),
    "renders": ("render",),
    "distance": ("render",),
    "control": ("control",),
    "size": (),
    "subjects": ("variants", "class_images", "prepare", "render"),
}
"""The parts, in the card's order, each with the tables of `limner.json` on which its figures depend."""


@dataclass(frozen=True)
class PartRecord:
    """WORK/check/parts/NAME.json: one part, measured once."""

    part: str
    date: str
    device: str
    seconds: float
    weights: str
    """`weights_hash` of the family measured."""
    settings: dict[str, Any]
    """`part_settings` of it."""
    fewer: int | None
    rows: list[dict[str, Any]]
    details: dict[str, Any]

    @property
    def whole(self) -> bool:
        """Whether everything was measured: no quick look, and all eight cats."""
        every_cat = self.part != "subjects" or set(self.details["names"]) == set(NAMES)
        return self.fewer is None and every_cat

    @property
    def figures(self) -> list[Row]:
        """Its rows."""
        return [row_from_json(row) for row in self.rows]

    def is_of(self, weights: str, settings: Mapping[str, Any]) -> bool:
        """Whether it was measured with these weights and these settings."""
        return self.weights == weights and self.settings == settings


def weights_hash(folder: Path) -> str:
    """SHA-256 over names and contents of a family's weights, with the VAE's scaling factor.

    Other configuration does not count: it names the version of transformers that wrote it.
    """
    files = {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    scaling_factor = read_json(folder / "vae" / "config.json")["scaling_factor"]
    return hash_bytes(canonical_json({"files": files, "scaling_factor": scaling_factor}))


def part_settings(folder: Path, part: str) -> dict[str, Any]:
    """The tables of the family's `limner.json` on which a part's figures depend."""
    defaults = BaseLocation(folder.name, folder, "folder").defaults
    return {name: defaults.get(name, {}) for name in TABLES[part]}


def keep_record(work: Path, record: PartRecord) -> None:
    """Write a record; that of a quick look lies beside the one of the whole part, which it does not replace."""
    name = record.part if record.whole else f"{record.part}-quick"
    write_json(work / "check" / "parts" / f"{name}.json", asdict(record))


def valid_records(folder: Path, work: Path) -> dict[str, PartRecord]:
    """By part, in the card's order: the records in WORK that are whole and of this family."""
    weights = weights_hash(folder)
    paths = {part: work / "check" / "parts" / f"{part}.json" for part in TABLES}
    records = {part: PartRecord(**read_json(path)) for part, path in paths.items() if path.exists()}
    return {
        part: record
        for part, record in records.items()
        if record.part == part and record.whole and record.is_of(weights, part_settings(folder, part))
    }
