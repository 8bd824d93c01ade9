"""Who hears of a run when nobody says: a notebook's cell or a terminal, else nobody."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from rich.console import Console

from limner.events import Answered, Event, Notice, Progressed, Started
from limner.progress import Listener, Progress
from limner.running.display import Bar, details_of, task_prefix


class NotebookBar:
    """One bar below a notebook's cell, drawn anew in its place, and a line for every notice.

    It needs nothing but IPython, which every notebook has; rich's own bars need ipywidgets too.
    """

    def __init__(self) -> None:
        self._prefix = ""
        self._shown: Any = None  # IPython's handle of what it displayed

    def __call__(self, event: Event) -> None:
        """Draw."""
        if isinstance(event, Started):
            self._prefix = task_prefix(event) or self._prefix
        elif isinstance(event, Notice):
            self._say(f"note: {event.message}")
        elif isinstance(event, Answered):
            self._say(f"{event.command}: {event.message}")
        elif isinstance(event, Progressed):
            self._draw(event)

    def _draw(self, event: Progressed) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found]  # where this runs, it is there

        words = f"{self._prefix}{event.title}: {event.step} of {event.total} {event.unit}{details_of(event)}"
        bar = HTML(f'<progress value="{event.step}" max="{event.total}"></progress> {escape(words)}')
        if self._shown is None:
            self._shown = display(bar, display_id=True)
        else:
            self._shown.update(bar)

    @staticmethod
    def _say(line: str) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found]

        display(HTML(f"<div>{escape(line)}</div>"))


def default_listener() -> Listener | None:
    """What shows progress in a notebook (rich knows one by its IPython) or on a terminal; None elsewhere."""
    console = Console(file=sys.stderr, highlight=False)
    if console.is_jupyter:
        return NotebookBar()
    return Bar(console) if console.is_terminal else None


def progress_for(on_event: Listener | None) -> Progress:
    """What stages report to: `on_event` if it is given, else the default."""
    listener = on_event or default_listener()
    return Progress(listener) if listener is not None else Progress()
