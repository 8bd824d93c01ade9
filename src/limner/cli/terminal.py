"""What a person sees in the terminal: progress bars and notices on standard error, none when it is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from limner.progress import Advance


class TerminalProgress:
    """Draws bars on a terminal; elsewhere prints one line when a piece of work is done."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Show `total` units of work under `title`."""
        started = time.monotonic()
        if not self.console.is_terminal:
            yield lambda units: None
            print(f"{title}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            return
        columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self.console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda units: bars.advance(task, units)

    def notice(self, message: str) -> None:
        """Print one line."""
        self.console.print(f"note: {message}", markup=False, soft_wrap=True)
