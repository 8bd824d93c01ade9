"""Whether a record on disk is whole: its hash of itself, its version, and what is said when it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from limner.artifacts.disk import canonical_json, hash_bytes, write_json
from limner.errors import NewerRecordError, RecordError
from limner.records import Record

HASH = "manifest_hash"
Kind = TypeVar("Kind", bound=Record)


def hash_of(raw: Mapping[str, Any]) -> str:
    """SHA-256 of a record as canonical JSON, without the field that holds this hash."""
    plain = json.loads(json.dumps(raw))  # as it will be read: keys are text, tuples lists
    return hash_bytes(canonical_json({name: value for name, value in plain.items() if name != HASH}))


def with_hash(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The record with a hash of itself."""
    return {**raw, HASH: hash_of(raw)}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises RecordError when it is absent or no such thing."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path.parent} has no {path.name}; run the stage that makes it first") from None
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
    if not isinstance(raw, dict):
        raise damaged(path, "it is no JSON object")
    return raw


def read_record(path: Path, kind: type[Kind]) -> Kind:
    """Read a file that is one record and no manifest. Raises RecordError when it is absent or damaged."""
    try:
        return kind.from_json(read_json(path))
    except ValidationError as error:
        raise damaged(path, first_fault(error)) from None


def write_record(path: Path, record: Record) -> None:
    """Write such a file whole. Raises NotFiniteError as `write_json`."""
    write_json(path, record.to_json())


def checked_version(path: Path, raw: Mapping[str, Any], known: int) -> int:
    """The record's version; 1 where it says none. Raises NewerRecordError for one larger than `known`."""
    version = raw.get("record_version", 1)
    if not isinstance(version, int) or version < 1:
        raise damaged(path, f"record version {version!r}")
    if version > known:
        raise NewerRecordError(
            f"{path} was written by a newer limner (record version {version}, this one reads up to {known}); "
            "update limner"
        )
    return version


def damaged(path: Path, why: str) -> RecordError:
    """Says that a record cannot be trusted, and what to do."""
    return RecordError(f"{path} is damaged or was changed by hand ({why}); run the stage that makes it again")


def first_fault(error: ValidationError) -> str:
    """The first field that is not what it should be, in one line."""
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
