"""Commands to a run: files in RUN/commands, written whole, taken once and answered by an event."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from limner.artifacts import write_whole
from limner.errors import InputError
from limner.events import Answered, CommandName
from limner.progress import Progress
from limner.running.lease import Lease, read_lease

COMMANDS = "commands"
LOOK_SECONDS = 1.0


def give(run: Path, command: CommandName) -> Lease:
    """Ask the process that works in `run` for something; returns who that is. Raises InputError where nobody works."""
    lease = read_lease(run)
    if lease is None or not lease.is_alive:
        raise InputError(f"{run}: no task that can {command} is running there; see limner plan")
    file = run / COMMANDS / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.json"
    write_whole(file, json.dumps({"command": command}).encode())
    return lease


class Inbox:
    """What a run looks into between two units of work; the disk is asked at most once a second."""

    def __init__(self, run: Path) -> None:
        self.folder, self._next = run / COMMANDS, 0.0

    def __call__(self) -> Sequence[CommandName]:
        """The commands that have come, in their order.

        A run in a thread whose process is ending (Ctrl-C reaches the main thread alone) is told to stop as well.
        """
        now = time.monotonic()
        if now < self._next:
            return ()
        self._next = now + LOOK_SECONDS
        main = threading.main_thread()
        if threading.current_thread() is not main and not main.is_alive():
            return ("stop",)
        return self.take() if self.folder.is_dir() else ()

    def take(self) -> list[CommandName]:
        """Read and remove every command."""
        taken: list[CommandName] = []
        for file in sorted(self.folder.glob("[0-9]*.json")):
            command: Any = None
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                command = json.loads(file.read_text(encoding="utf-8"))["command"]
            file.unlink(missing_ok=True)
            if command in get_args(CommandName):
                taken.append(command)
        return taken

    def refuse_old(self, progress: Progress) -> None:
        """Commands to a run that had ended are not meant for this one."""
        for command in self.take() if self.folder.is_dir() else ():
            progress.emit(Answered(command=command, outcome="refused", message="the run had already ended"))
