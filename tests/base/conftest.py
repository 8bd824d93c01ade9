"""The command line, for tests of commands that need no study."""

from tests.cli.conftest import limner

__all__ = ["limner"]
