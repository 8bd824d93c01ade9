"""The command line: commands, progress bars, exit codes. No logic of its own."""

from limner.cli.main import main

__all__ = ["main"]
