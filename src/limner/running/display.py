"""What people see of a run: a bar in a terminal or notebook, a line every half a minute in a log file, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from limner.events import Answered, Event, Notice, Progressed, Started
from limner.progress import Progress

LINE_SECONDS = 30  # between two lines in a log file
WORTH_A_LINE_SECONDS = 0.05  # an activity that took less says nothing in a log file


def terminal_progress(*, quiet: bool = False) -> Progress:
    """What commands report to: nobody with `quiet`, a bar on a terminal, else lines."""
    if quiet:
        return Progress()
    return Progress(Bar(Console(stderr=True, highlight=False)) if sys.stderr.isatty() else Lines())


class Lines:
    """A line for every notice, every half a minute of work and every activity that has ended."""

    def __init__(self) -> None:
        self._prefix, self._last = "", time.monotonic()

    def __call__(self, event: Event) -> None:
        """Print what the event is worth."""
        if isinstance(event, Started):
            self._prefix = task_prefix(event) or self._prefix
        elif isinstance(event, Notice):
            self._print(f"note: {event.message}")
        elif isinstance(event, Answered):
            self._print(f"{event.command}: {event.message}")
        elif isinstance(event, Progressed):
            self._progressed(event)

    def _progressed(self, event: Progressed) -> None:
        now = time.monotonic()
        if event.step == 0:
            self._last = now
        if event.last:
            if event.seconds >= WORTH_A_LINE_SECONDS:
                self._print(f"{self._prefix}{event.title}: {event.seconds:.1f} s")
        elif now - self._last >= LINE_SECONDS:
            self._last = now
            self._print(f"{self._prefix}{event.title}: {event.step} of {event.total} {event.unit}{details_of(event)}")

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bar:
    """One bar: which task of how many, the variant, its step and loss, and what is left of the whole run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._prefix = ""
        self._bars: Any = None
        self._task: Any = None

    def __call__(self, event: Event) -> None:
        """Draw."""
        if isinstance(event, Started):
            self._prefix = task_prefix(event) or self._prefix
        elif isinstance(event, Notice):
            self.console.print(f"note: {event.message}", markup=False, soft_wrap=True)
        elif isinstance(event, Answered):
            self.console.print(f"{event.command}: {event.message}", markup=False, soft_wrap=True)
        elif isinstance(event, Progressed):
            self._progressed(event)
        else:
            self._close()

    def _progressed(self, event: Progressed) -> None:
        if self._bars is None:
            self._bars = self._open()
            self._task = self._bars.add_task("", total=event.total, details="")
        self._bars.update(
            self._task,
            description=f"{self._prefix}{event.title}",
            completed=event.step,
            total=event.total,
            details=details_of(event).removeprefix(", "),
        )
        if event.last:
            self._close()

    def _open(self) -> Any:
        title, details = TextColumn("{task.description:<28}", markup=False), TextColumn("{task.fields[details]}")
        bars = Bars(title, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), details, console=self.console)
        bars.start()
        return bars

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._task = None


def task_prefix(event: Started) -> str:
    """[3/7] for the third of seven tasks; nothing for a run as a whole."""
    return f"[{event.place}/{event.tasks}] " if event.place else ""


def details_of(event: Progressed) -> str:
    """The newest losses and the time that is left, each after a comma."""
    losses = [f"{loss:.4f}" for loss in event.losses.values()]
    shown = f", loss {' '.join(losses[:4])}{' …' if len(losses) > 4 else ''}" if losses else ""
    left = f", {duration(event.seconds_left)} left" if event.seconds_left is not None else ""
    run = f", {duration(event.run_seconds_left)} of the run" if event.run_seconds_left is not None else ""
    return shown + left + run


def duration(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 3 h 5 min."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
