"""What a run leaves: a digest of every file, without what may differ from run to run (times, seconds, machine)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

VOLATILE = {"made", "seconds", "seconds_per_step", "time", "machine", "device", "record_hash", "manifest_hash"}
TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:+-]+|\b[\d.,]+ ?(?:s|ms|seconds)\b|width:[\d.]+%|\(\d+ made then\)")
"""Times and durations, the bars that show durations, and how much a stage made when it last ran."""
REPORT_RECORD = "report/manifest.json"
NOT_COMPARED = ("events.jsonl",)
"""What says how the work went and not what it made."""
UNFINISHED = re.compile(r"(^|/)\.unfinished")


def digests(run: Path) -> dict[str, str]:
    """File below `run` -> digest."""
    files = sorted(path for path in run.rglob("*") if path.is_file()) if run.is_dir() else []
    named = {path.relative_to(run).as_posix(): path for path in files}
    return {name: _digest(path, run) for name, path in named.items() if name not in NOT_COMPARED}


def unfinished(run: Path) -> list[str]:
    """Files and folders that an interrupted write left, in the run's folder or beside it."""
    below = [path.relative_to(run.parent).as_posix() for path in run.parent.rglob("*")]
    return sorted(name for name in below if UNFINISHED.search(name))


def _digest(path: Path, run: Path) -> str:
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            record = json.loads(content)
            if path.relative_to(run).as_posix() == REPORT_RECORD:
                record = {"settings": record["settings"]}  # the page shows durations, which its key and hashes follow
            content = _plain(record)
        elif path.suffix == ".jsonl":
            content = b"\n".join(_plain(json.loads(line)) for line in content.splitlines())
        elif path.suffix in (".html", ".md"):
            text = content.decode().replace(str(run), "RUN")
            content = TIMES.sub("T", re.sub(r'"(seconds|seconds_per_step)": [\d.e-]+', "S", text)).encode()
    except ValueError:
        return "damaged"
    return hashlib.sha256(content).hexdigest()


def _plain(value: Any) -> bytes:
    return json.dumps(_without_volatile(value), sort_keys=True).encode()


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_volatile(each) for name, each in value.items() if name not in VOLATILE}
    return [_without_volatile(each) for each in value] if isinstance(value, list) else value
