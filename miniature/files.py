"""Files are written whole: into a temporary sibling, then renamed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; it takes the place of `path` only when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


class Log:
    """One JSON object a line in WORK/PART/log.jsonl, echoed to the terminal."""

    def __init__(self, path: Path, part: str, quiet: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._quiet = quiet
        self._part = part
        self._started_seconds = time.monotonic()

    def __call__(self, **values: Any) -> None:
        """Append one line; floats are shortened to five significant digits."""
        if self._quiet:
            return
        seconds = round(time.monotonic() - self._started_seconds, 1)
        row = {"part": self._part, "seconds": seconds} | {name: _short(value) for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"[{self._part} {seconds:7.1f}s] " + " ".join(f"{k}={v}" for k, v in list(row.items())[2:]), flush=True)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    return value
