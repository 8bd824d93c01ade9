"""The one writer and reader of `manifest.json`: an artefact's record, what made it from what, and a hash of it all.

A manifest whose hash does not match its content is damaged: the artefact is not current, and as an input it is refused.
Manifests of earlier record versions are upgraded as they are read; those of later ones are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from limner import records
from limner.artifacts.disk import MANIFEST, Specification, canonical_json, hash_bytes, hash_files, write_json
from limner.artifacts.integrity import HASH, checked_version, damaged, first_fault, hash_of, read_json, with_hash
from limner.errors import NewerRecordError, RecordError
from limner.records import RECORDS, ArtifactRecord, MachineRecord, upgraded


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, which stage made it from what, and how to tell whether it is current.

    `files` maps each file's path relative to the folder to its SHA-256; `record` is the artefact's own, whose fields
    stand at the top level of the file.
    """

    stage: str
    version: int
    key: str
    settings: dict[str, Any]
    inputs: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    made: MachineRecord = field(default_factory=MachineRecord)
    record: ArtifactRecord = field(default_factory=ArtifactRecord)

    @classmethod
    def of(
        cls,
        specification: Specification,
        record: ArtifactRecord | None = None,
        files: dict[str, str] | None = None,
        made: MachineRecord | None = None,
    ) -> Manifest:
        """The manifest of what a specification names; without a record it cannot be written yet."""
        of = specification
        return cls(
            of.stage,
            of.version,
            of.key,
            of.settings,
            of.inputs,
            files or {},
            made or MachineRecord(),
            record or ArtifactRecord(),
        )

    @property
    def content_hash(self) -> str:
        """Hash of the files the folder holds: what a later stage names as its input."""
        return hash_bytes(canonical_json(self.files))

    def to_json(self) -> dict[str, Any]:
        """The manifest as it lies on disk. Raises TypeError unless the record is the one that the stage writes."""
        if type(self.record) is not RECORDS.get(self.stage):
            raise TypeError(f"stage {self.stage} does not write a {type(self.record).__name__}")
        fields = {
            "stage": self.stage,
            "version": self.version,
            "record_version": self.record.RECORD_VERSION,
            "key": self.key,
            "settings": self.settings,
            "inputs": self.inputs,
            "files": self.files,
            "made": self.made.to_json(),
        }
        return with_hash({**self.record.to_json(), **fields})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, last, beside the files that it names."""
    write_json(folder / MANIFEST, manifest.to_json())


def load_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`.

    Raises RecordError when it is absent, damaged or none of ours, NewerRecordError when a newer limner wrote it.
    """
    path = folder / MANIFEST
    raw = read_json(path)
    record_class = RECORDS.get(str(raw.get("stage")))
    if record_class is None:
        raise RecordError(
            f"{path} comes from a stage that this limner does not know; run the stage that makes {folder} again"
        )
    version = checked_version(path, raw, record_class.RECORD_VERSION)
    if version > 1 and raw.get(HASH) != hash_of(raw):
        raise damaged(path, "its content is not what limner wrote")
    return _manifest_of(path, upgraded(raw["stage"], version, raw), record_class)


def _manifest_of(path: Path, raw: dict[str, Any], record_class: type[ArtifactRecord]) -> Manifest:
    later = {"record_version": 1, HASH: ""}  # what a manifest of record version 1 lacks
    try:
        head = records.ManifestRecord.from_json({**later, **raw})
        record = record_class.from_json(raw)
    except ValidationError as error:
        raise damaged(path, first_fault(error)) from None
    return Manifest(head.stage, head.version, head.key, head.settings, head.inputs, head.files, head.made, record)


def read_manifest(folder: Path) -> Manifest | None:
    """Read `folder/manifest.json`; None when there is none that is whole and ours. Raises NewerRecordError."""
    try:
        return load_manifest(folder)
    except NewerRecordError:
        raise
    except RecordError:
        return None


def is_current(folder: Path, key: str) -> bool:
    """Whether `folder` holds the whole result that `key` names, every file with the content it was made with.

    Raises NewerRecordError when a newer limner wrote it: it is not to be replaced by an older one's.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.key != key:
        return False
    files = [folder / name for name in manifest.files]
    return all(file.is_file() for file in files) and hash_files(files) == list(manifest.files.values())
