"""RUN/events.jsonl: every event one line, appended in one write, so that others can follow by byte offset."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from limner.events import Event, Progressed, event_of

EVENTS = "events.jsonl"
LINE_SECONDS = 1.0  # of one activity at most one line in so long, beside its first and last


class EventFile:
    """Appends events. A last line that was cut off when its process died is ended first; readers pass over it."""

    def __init__(self, run: Path) -> None:
        self._handle = os.open(run / EVENTS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._next = 0.0
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            os.write(self._handle, b"\n")

    def __call__(self, event: Event) -> None:
        """Append a line."""
        if isinstance(event, Progressed) and event.step and not event.last:
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + LINE_SECONDS
        os.write(self._handle, (event.model_dump_json() + "\n").encode())

    def close(self) -> None:
        """No more lines."""
        os.close(self._handle)


def read_events(run: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The events from a byte offset on, and the offset to go on from: behind the last line that is whole.

    Lines that are cut off, or of a kind that is not known here, are passed over.
    """
    try:
        with (run / EVENTS).open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return [], offset
    whole = content[: content.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        try:
            event = event_of(json.loads(line))
        except ValueError:
            continue
        if event is not None:
            events.append(event)
    return events, offset + len(whole)
