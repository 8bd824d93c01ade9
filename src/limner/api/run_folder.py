"""A run's folder as Python sees it: each record is read when it is asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from limner.artifacts import MANIFEST, AdapterFolder, ClassSet, PhotoSet, RenderSet, ScoreTable
from limner.config import Study, expand_variants
from limner.errors import InputError, LimnerError
from limner.opening import LOCK, read_lock
from limner.records import LockFile


class RunFolder:
    """What a run has made so far. A run that goes on is seen as it was when each record was first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"RunFolder({str(self.folder)!r})"

    @cached_property
    def study(self) -> Study:
        """The study with every setting resolved, from `study.lock.json`."""
        return Study.model_validate(self.lock.study)

    @cached_property
    def lock(self) -> LockFile:
        """`study.lock.json`: the resolved settings, where each came from, hashes, versions, the consent note."""
        return read_lock(self.folder)

    @cached_property
    def photos(self) -> PhotoSet:
        """The crops of the subject, with where each came from and what was refused."""
        return PhotoSet(self._require_made("photos", "prepare"))

    @cached_property
    def class_images(self) -> ClassSet | None:
        """Class images for prior preservation; None where there are none."""
        return ClassSet(self.folder / "class") if self._has("class") else None

    @cached_property
    def adapters(self) -> dict[str, AdapterFolder]:
        """Every adapter that is whole, by label, in the study's order: those made elsewhere, then the trained ones."""
        study = self.study
        labels = [each.name for each in study.adapters] + [run.label for run in expand_variants(study.variants)]
        folders = {label: f"adapters/{label}" for label in labels}
        return {
            label: AdapterFolder(self.folder / subfolder)
            for label, subfolder in folders.items()
            if self._has(subfolder)
        }

    @cached_property
    def renders(self) -> RenderSet:
        """Every picture of the grid, as cells in the order variant, row, seed, image."""
        return RenderSet(self._require_made("renders", "render"))

    @cached_property
    def controls(self) -> RenderSet | None:
        """Pictures conditioned on references; None where there are none."""
        return RenderSet(self.folder / "control") if self._has("control") else None

    @cached_property
    def score_table(self) -> ScoreTable:
        """`scores.json` whole: rows, anchors, models, notes."""
        path = self.folder / "scores.json"
        if not path.is_file():
            raise LimnerError(f"{self.folder} has no scores.json yet; call limner.measure with its study first")
        return ScoreTable(path)

    @property
    def scores(self) -> list[dict[str, Any]]:
        """One plain dict a value: variant, prompt, reference, seed, image_index, training_seed, conditioning_scale,
        metric, value. `pandas.DataFrame(run.scores)` makes a table of it."""
        return [dict(row) for row in self.score_table.rows]

    @property
    def report(self) -> Path:
        """The report's page, `report/index.html`."""
        return self._require_made("report", "report") / "index.html"

    def _has(self, subfolder: str) -> bool:
        return (self.folder / subfolder / MANIFEST).is_file()

    def _require_made(self, subfolder: str, stage: str) -> Path:
        if not self._has(subfolder):
            raise LimnerError(f"{self.folder} has no {subfolder} yet; call limner.{stage} with its study first")
        return self.folder / subfolder


def open_run(folder: str | Path) -> RunFolder:
    """The records of the run in `folder`, finished or not; nothing is loaded or made.

    Raises InputError for a folder that no run has begun in.
    """
    folder = Path(folder)
    if not (folder / LOCK).is_file():
        raise InputError(f"{folder} is not a run's folder: it has no {LOCK}; give the folder that a study ran into")
    return RunFolder(folder)
