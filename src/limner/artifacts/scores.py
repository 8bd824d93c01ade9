"""The one writer and reader of `scores.json`, whole as a manifest is: with a version and a hash of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from limner.artifacts.disk import canonical_json, hash_bytes, write_json
from limner.artifacts.integrity import HASH, checked_version, damaged, first_fault, hash_of, read_json
from limner.errors import NewerRecordError, RecordError
from limner.records import ScoresRecord, upgraded


def write_scores(path: Path, scores: ScoresRecord) -> None:
    """Write the scores whole, with a hash of themselves."""
    raw = scores.to_json()
    raw["manifest"] |= {HASH: _hash_of(raw)}
    write_json(path, raw)


def load_scores(path: Path) -> ScoresRecord:
    """Read scores. Raises RecordError when absent or damaged, NewerRecordError when a newer limner wrote them."""
    raw = read_json(path)
    manifest = raw.get("manifest")
    if not isinstance(manifest, dict):
        raise damaged(path, "it has no manifest")
    version = checked_version(path, manifest, ScoresRecord.RECORD_VERSION)
    if not (_hash_of(raw) == manifest.get(HASH) if version > 1 else _is_whole_of_1(raw)):
        raise damaged(path, "its content is not what limner wrote")
    later = {"record_version": 1}  # what a record of version 1 lacks
    try:
        return ScoresRecord.from_json(upgraded("measure", version, {**raw, "manifest": {**later, **manifest}}))
    except ValidationError as error:
        raise damaged(path, first_fault(error)) from None


def scores_are_current(path: Path, key: str) -> bool:
    """Whether `path` holds the whole scores that `key` names. Raises NewerRecordError when a newer limner wrote it."""
    try:
        return load_scores(path).manifest.key == key
    except NewerRecordError:
        raise
    except RecordError:
        return False


def _hash_of(raw: Mapping[str, Any]) -> str:
    manifest = {name: value for name, value in raw["manifest"].items() if name != HASH}
    return hash_of({**raw, "manifest": manifest})


def _is_whole_of_1(raw: Mapping[str, Any]) -> bool:
    """Record version 1 hashed all but the manifest, as `content_hash`."""
    rest = {name: value for name, value in raw.items() if name != "manifest"}
    return raw["manifest"].get("content_hash") == hash_bytes(canonical_json(json.loads(json.dumps(rest))))
