"""What goes wrong at a file event: the process is killed or signalled, the disk is full or broken, the power goes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Literal

from tests.chaos.events import Event

Kind = Literal["kill", "power", "int", "term", "hup", "full", "broken"]
KINDS: tuple[Kind, ...] = ("kill", "power", "int", "term", "hup", "full", "broken")
SIGNALS = {"int": signal.SIGINT, "term": signal.SIGTERM, "hup": signal.SIGHUP}
ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO}
KILLED = 137


class Fault:
    """Lets file events happen, and does harm at the one with the number `at`."""

    def __init__(self, at: int, kind: Kind) -> None:
        self.at, self.kind = at, kind
        self._cache = UnsyncedFiles() if kind == "power" else None

    def __call__(self, number: int, event: Event) -> None:
        """Called before each event."""
        if number == self.at:
            self._strike(event)
        elif self._cache is not None:
            self._cache.note(event)

    def _strike(self, event: Event) -> None:
        if self.kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.kind])
            return
        if event.tear is not None:
            event.tear()
        if self._cache is not None:
            self._cache.lose()
        if self.kind in ERRORS:
            raise OSError(ERRORS[self.kind], os.strerror(ERRORS[self.kind]), event.path)
        os._exit(KILLED)


class UnsyncedFiles:
    """What a power cut may undo: content that was not fsynced, and renames whose folder was not fsynced.

    POSIX promises nothing of either. Here all of it is lost, renames before content, newest first.
    """

    def __init__(self) -> None:
        self._written: set[Path] = set()  # files whose content may be lost
        self._renames: list[tuple[Path, Path, Path | None]] = []  # from, to, and a copy of the file that was replaced

    def note(self, event: Event) -> None:
        """Remember what an event that is about to happen makes uncertain, or certain."""
        path = Path(event.path)
        if event.what in ("open", "write", "save_file", "torch.save"):
            self._written.add(path)
        elif event.what == "os.rename":
            self._note_rename(path, Path(event.to))
        elif event.what == "fsync":
            self._written.discard(path)
            self._renames = [row for row in self._renames if row[1].parent != path]

    def _note_rename(self, before: Path, after: Path) -> None:
        replaced = None
        if after.is_file():
            replaced = Path(tempfile.mkdtemp()) / "replaced"
            shutil.copyfile(after, replaced)
        self._renames.append((before, after, replaced))
        self._written = {_moved(path, before, after) for path in self._written}

    def lose(self) -> None:
        """Undo everything that was not made certain."""
        for before, after, replaced in reversed(self._renames):
            if after.exists() and not before.exists() and before.parent.is_dir():
                after.rename(before)
                self._written = {_moved(path, after, before) for path in self._written}
                if replaced is not None:
                    shutil.copyfile(replaced, after)
        for path in self._written:
            if path.is_file():
                os.truncate(path, 0)


def _moved(path: Path, before: Path, after: Path) -> Path:
    """Where a file is once a folder or file `before`, in which it may be, is called `after`."""
    return after / path.relative_to(before) if path.is_relative_to(before) else path
