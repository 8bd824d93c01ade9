"""How signals end a command: SIGTERM as Ctrl-C does, with an exit code that names the signal."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated by SIGTERM"}
SIGNALLED = 128  # a command that a signal ends has this exit code plus the signal's number: 130 for Ctrl-C, 143


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM end a command as Ctrl-C does: by a KeyboardInterrupt, which stages answer by saving their state.

    Yields the list that its number is put into when it comes. A SIGTERM that is to be ignored still is.
    """
    came: list[int] = []

    def end(number: int, frame: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
