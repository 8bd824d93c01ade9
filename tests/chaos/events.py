"""File events of this process: each is counted, and one of them can be made to go wrong.

An event is: open for writing, mkdir, rename, remove, rmdir, chmod, truncate, fsync, each write to an artefact (which
can be torn in half), and safetensors' and torch's own writers (which can leave half a file).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.link", "os.symlink")
NOT_ON_DISK = ("/dev/", "/proc/", "/sys/")


@dataclass(frozen=True)
class Event:
    """What is about to happen to which file; `to` is the new name of a rename, `tear` does half of a write."""

    what: str
    path: str
    to: str = ""
    tear: Callable[[], None] | None = None


class EventCounter:
    """Numbers the file events below a folder from 1, and calls `act` with each before it happens."""

    def __init__(self, below: Path, act: Callable[[int, Event], None]) -> None:
        self.below, self.act, self.count = str(below), act, 0
        self._process, self._lock = os.getpid(), threading.RLock()

    def __call__(self, event: Event) -> None:
        """Count an event, unless it is another process's or another folder's."""
        if os.getpid() != self._process or event.path.startswith(NOT_ON_DISK):
            return
        if not str(Path(event.path).absolute()).startswith(self.below):
            return
        with self._lock:
            self.count += 1
            number = self.count
        self.act(number, event)


def watch(counter: EventCounter) -> None:
    """Have every file event of this process, which ends with it, go through `counter`."""
    sys.addaudithook(lambda name, arguments: _audited(counter, name, arguments))
    _watch_fsync(counter)
    _watch_writes(counter)
    _watch_writers(counter)


def _audited(counter: EventCounter, name: str, arguments: tuple[Any, ...]) -> None:
    if name == "open":
        path, mode, flags = arguments
        writes = set(mode) & set("wax+") if isinstance(mode, str) else flags & WRITING
        if not isinstance(path, int) and writes:
            counter(Event("open", os.fsdecode(path)))
    elif name in CHANGES and not isinstance(arguments[0], int):
        to = os.fsdecode(arguments[1]) if name == "os.rename" else ""
        counter(Event(name, os.fsdecode(arguments[0]), to))


def _watch_fsync(counter: EventCounter) -> None:
    fsync = os.fsync

    def watched(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        counter(Event("fsync", _path_of(number)))
        fsync(descriptor)

    os.fsync = watched


def _watch_writes(counter: EventCounter) -> None:
    fdopen = os.fdopen

    def watched(descriptor: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = fdopen(descriptor, mode, *arguments, **options)
        return _WatchedFile(file, counter) if mode == "wb" else file

    os.fdopen = watched


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


class _WatchedFile:
    """A binary file whose writes are events."""

    def __init__(self, file: Any, counter: EventCounter) -> None:
        self._file, self._counter = file, counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _WatchedFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def write(self, content: Any) -> int:
        """Write, as an event that can be torn in half."""

        def tear() -> None:
            self._file.write(bytes(content)[: len(bytes(content)) // 2])
            self._file.flush()

        self._counter(Event("write", _path_of(self._file.fileno()), tear=tear))
        return self._file.write(content)


def _watch_writers(counter: EventCounter) -> None:
    """Writers in other languages, of which Python's own events say nothing."""
    import safetensors.torch
    import torch

    safetensors.torch.save_file = _halved(safetensors.torch.save_file, "save_file", counter)
    torch.save = _halved(torch.save, "torch.save", counter)


def _halved(write: Callable[..., Any], what: str, counter: EventCounter) -> Callable[..., Any]:
    def watched(content: Any, path: Any, *arguments: Any, **options: Any) -> Any:
        def tear() -> None:
            write(content, path, *arguments, **options)
            os.truncate(path, Path(path).stat().st_size // 2)

        if isinstance(path, str | Path):
            counter(Event(what, str(path), tear=tear))
        return write(content, path, *arguments, **options)

    return watched
