"""Where progress goes when nobody says: into a notebook's cell, onto a terminal, or nowhere."""

from __future__ import annotations

import sys

from rich.console import Console

from limner.progress import SILENT, Progress
from limner.running.display import Bar


def default_progress() -> Progress:
    """What shows progress in a notebook (rich knows one by its IPython) or on a terminal; elsewhere what is silent."""
    console = Console(file=sys.stderr, highlight=False)
    return Progress(Bar(console)) if console.is_jupyter or console.is_terminal else SILENT
