"""What a variant's validations leave in its work folder: the curve over steps, and weights that may be delivered.

validation.json     what was judged by, and one record a validation
kept-N/             the adapter as it was after step N, whole, as it would be delivered
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from limner.adapters import Adapter, save_adapter
from limner.artifacts import Manifest, file_hashes, is_current, whole_folder, write_json, write_manifest
from limner.config import Validation
from limner.records import KeptRecord, ValidationCurve, ValidationRecord
from limner.training.choosing import possible_steps, stopping_step

CURVE_FILE = "validation.json"
STAGE, VERSION = "kept", 1


@dataclass
class Curve:
    """The validations of one variant. Records of steps after the one that a training resumed from stay true."""

    work: Path
    settings: Validation
    key: str  # of the training
    by_step: dict[int, ValidationRecord] = field(default_factory=dict)

    @property
    def records(self) -> list[ValidationRecord]:
        """One record a validation, by step."""
        return [self.by_step[step] for step in sorted(self.by_step)]

    def until(self, step: int) -> list[ValidationRecord]:
        """Records up to a step."""
        return [record for record in self.records if record.step <= step]

    def due(self, step: int, last_step: int) -> bool:
        """Whether a step is validated: every so many, and where the pictures are scored the last."""
        every = self.settings.every_steps
        return bool(every) and step > 0 and (step % every == 0 or (self.settings.scored and step == last_step))

    def stopped(self, step: int) -> bool:
        """Whether the rule has stopped this variant by then."""
        last = stopping_step(self.until(step), self.settings)
        return last is not None and last <= step

    def add(self, record: ValidationRecord) -> None:
        """Take in a validation's record."""
        self.by_step[record.step] = record
        curve = ValidationCurve(key=self.key, settings=self.settings.model_dump(mode="json"), records=self.records)
        write_json(self.work / CURVE_FILE, curve.to_json())

    def keep(self, step: int, adapter: Adapter) -> None:
        """Write the adapter of a step."""
        with whole_folder(kept_folder(self.work, step)) as folder:
            save_adapter(folder, adapter)
            write_manifest(folder, Manifest(STAGE, VERSION, self.key, {}, {}, file_hashes(folder), record=KeptRecord()))

    def kept(self, step: int) -> Path | None:
        """Where a step's adapter lies whole, None where it does not."""
        folder = kept_folder(self.work, step)
        return folder if is_current(folder, self.key) else None

    def drop_hopeless(self) -> None:
        """Remove the adapters that can no longer be chosen."""
        drop_kept(self.work, possible_steps(self.records, self.settings))


def open_curve(work: Path, settings: Validation, key: str, *, resumed: bool) -> Curve:
    """The curve of a training that goes on, if it was judged as it is now; else an empty one, and what lay there goes.

    A damaged file counts as none.
    """
    curve = Curve(work, settings, key)
    try:
        earlier = ValidationCurve.from_json(json.loads((work / CURVE_FILE).read_text(encoding="utf-8")))
        if resumed and earlier.key == key and earlier.settings == settings.model_dump(mode="json"):
            curve.by_step = {record.step: record for record in earlier.records}
            return curve
    except (OSError, ValueError):
        pass
    (work / CURVE_FILE).unlink(missing_ok=True)
    drop_kept(work)
    return curve


def drop_kept(work: Path, but: set[int] | frozenset[int] = frozenset()) -> None:
    """Remove kept adapters, all but those of some steps."""
    for folder in work.glob("kept-*"):
        if folder.is_dir() and folder.name[5:].isdecimal() and int(folder.name[5:]) not in but:
            shutil.rmtree(folder)


def kept_folder(work: Path, step: int) -> Path:
    """Where the adapter of a step lies."""
    return work / f"kept-{step}"
