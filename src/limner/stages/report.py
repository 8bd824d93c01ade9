"""The last stage: everything a run holds, written up for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.artifacts import (
    AdapterFolder,
    Artifact,
    Manifest,
    PhotoSet,
    RenderSet,
    ScoreTable,
    Specification,
    canonical_json,
    file_hashes,
    hash_bytes,
    hash_file,
    is_current,
    machine_record,
    whole_folder,
    write_manifest,
)
from limner.config import Study
from limner.progress import SILENT, Progress
from limner.records import ReportRecord
from limner.reporting import ReportInputs, write_report
from limner.reporting.record import read_origins

STAGE, VERSION = "report", 2


def report(
    run: Path,
    study: Study,
    photo_set: PhotoSet,
    adapters: Sequence[AdapterFolder],
    renders: RenderSet,
    controls: RenderSet | None,
    scores: ScoreTable,
    out: Path,
    *,
    progress: Progress = SILENT,
) -> Path:
    """Write `out/index.html`, `out/README.md` and `out/images/`, and return the page's path.

    Does nothing when they are there and nothing that they show has changed. Raises LimnerError when a picture that
    a manifest names is missing, DiskError when `out` cannot be written.
    """
    inputs = ReportInputs(run, study, photo_set, adapters, renders, controls, scores)
    specification = specify_report(inputs)
    if not is_current(out, specification.key):
        with whole_folder(out) as folder:
            write_report(inputs, folder, progress=progress)
            files, machine = file_hashes(folder), machine_record()
            write_manifest(folder, Manifest.of(specification, ReportRecord(), files, machine))
    return out / "index.html"


def specify_report(inputs: ReportInputs) -> Specification:
    """What the report follows from: it shows every setting."""
    return Specification(STAGE, VERSION, inputs.study.model_dump(mode="json"), _hashes(inputs))


def _hashes(inputs: ReportInputs) -> dict[str, str]:
    """What the report shows: of each folder its files and the key that stands for its record."""
    hashes = {f"{artifact.manifest.stage}/{name}": _hash(artifact) for name, artifact in inputs.artifacts}
    origins = hash_bytes(canonical_json(read_origins(inputs.run)))
    return {**hashes, "scores": hash_file(inputs.scores.path), "origins": origins}


def _hash(artifact: Artifact) -> str:
    return hash_bytes(canonical_json([artifact.manifest.key, artifact.content_hash]))
