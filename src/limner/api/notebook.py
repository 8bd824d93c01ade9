"""Where progress goes when nobody says: into a notebook's cell, onto a terminal, or nowhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from limner.progress import SILENT, Advance, Progress


class Shown:
    """Bars and notices where rich shows them: a notebook's cell or a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Show `total` units of work under `title`."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, TimeRemainingColumn(), console=self.console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda units: bars.advance(task, units)

    def notice(self, message: str) -> None:
        """Show one line."""
        self.console.print(f"note: {message}", markup=False, soft_wrap=True)


def default_progress() -> Progress:
    """What shows progress in a notebook (rich knows one by its IPython) or on a terminal; elsewhere what is silent."""
    console = Console(file=sys.stderr, highlight=False)
    return Shown(console) if console.is_jupyter or console.is_terminal else SILENT
