"""How work says where it is: stages report to a `Progress`, which hands typed events to whoever listens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from limner.escaping import printable
from limner.events import Answered, CommandName, Event, Notice, Progressed

Advance = Callable[[int], None]
Listener = Callable[[Event], None]
Look = Callable[[], Sequence[CommandName]]
"""Takes the commands that have come since the last time; called between two units of work, so it has to be quick."""
EVENT_SECONDS = 0.25


class StopAskedError(KeyboardInterrupt):
    """Somebody gave the command to stop: what stages answer as they answer Ctrl-C, by saving what they have."""


class Progress:
    """What a stage reports to: listeners are called with every event, from the thread that works.

    Of one activity at most one event in `every_seconds` is made, beside its first and last.
    """

    def __init__(self, *listeners: Listener, every_seconds: float = EVENT_SECONDS, look: Look = lambda: ()) -> None:
        self.listeners, self.every_seconds, self.look = listeners, every_seconds, look

    def emit(self, event: Event) -> None:
        """Hand an event to every listener."""
        for listener in self.listeners:
            listener(event)

    def notice(self, message: str) -> None:
        """One line that the user should see; names of files may stand in it as they are."""
        self.emit(Notice(message=printable(message)))

    @contextlib.contextmanager
    def task(
        self,
        stage: str,
        total: int,
        activity: str = "",
        *,
        variants: Sequence[str] = (),
        unit: str = "pictures",
        accepts: Collection[CommandName] = (),
    ) -> Iterator[Activity]:
        """A piece of work of `total` units; the block calls what it is given with the units that are done.

        `accepts` are the commands (beside stop) that the block will ask for by `Activity.take`.
        """
        start = Progressed(stage=stage, activity=activity, variants=tuple(variants), step=0, total=total, unit=unit)
        activity_now = Activity(self, start, accepts)
        self.emit(start)
        yield activity_now
        activity_now.end()


class Activity:
    """Counts the units of one piece of work. Calling it may raise StopAskedError: between two units is the place."""

    def __init__(self, progress: Progress, start: Progressed, accepts: Collection[CommandName]) -> None:
        self.progress, self.start, self.accepts = progress, start, accepts
        self.step, self._skipped = 0, 0
        self._losses: dict[str, float] = {}
        self._learning_rates: dict[str, float] = {}
        self._asked: list[CommandName] = []
        self._began = self._last = time.monotonic()

    def __call__(self, units: int) -> None:
        """So many more units are done."""
        self.step += units
        now = time.monotonic()
        if now - self._last >= self.progress.every_seconds:
            self._last = now
            self.progress.emit(self._event(now))
        for command in self.progress.look():
            self._obey(command)

    def resume(self, step: int) -> None:
        """The first `step` units were done by an earlier run: they say nothing of the pace."""
        self.step = self._skipped = step

    def measured(self, variant: str, loss: float, learning_rate: float) -> None:
        """The newest loss that is known; the next event carries it."""
        self._losses[variant], self._learning_rates[variant] = loss, learning_rate

    def take(self) -> list[CommandName]:
        """The commands that have come; whoever takes them answers them by an event."""
        asked, self._asked = self._asked, []
        return asked

    def end(self) -> None:
        """The last event."""
        self.progress.emit(self._event(time.monotonic(), last=True))

    def _obey(self, command: CommandName) -> None:
        if command == "stop":
            self.progress.emit(Answered(command=command, outcome="done", message=f"{self.start.title} stops here"))
            raise StopAskedError
        if command in self.accepts:
            self._asked.append(command)
        else:
            message = f"{self.start.title}: nothing to {command} now; this works while variants train"
            self.progress.emit(Answered(command=command, outcome="refused", message=message))

    def _event(self, now: float, *, last: bool = False) -> Progressed:
        seconds, done = now - self._began, self.step - self._skipped
        left = seconds / done * (self.start.total - self.step) if done else None
        changes = {
            "time": time.time(),
            "step": self.step,
            "losses": dict(self._losses),
            "learning_rates": dict(self._learning_rates),
            "seconds": seconds,
            "seconds_left": 0.0 if last else left,
            "last": last,
        }
        return self.start.model_copy(update=changes)


SILENT = Progress()
