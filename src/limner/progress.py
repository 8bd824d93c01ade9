"""How long work tells where it is: stages speak to a `Progress`, the command line draws it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where a stage reports to."""

    def task(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """A piece of work of `total` units; the block calls advance(units)."""
        ...

    def notice(self, message: str) -> None:
        """One line that the user should see."""
        ...


class Silent:
    """Reports to nobody."""

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Count for nobody."""
        yield lambda units: None

    def notice(self, message: str) -> None:
        """Say nothing."""


SILENT = Silent()
