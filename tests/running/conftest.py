"""A shell for tests that call commands."""

from __future__ import annotations

import pytest

from tests.cli.calling import Shell


@pytest.fixture
def limner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """`limner(*arguments)` runs the command line and returns exit code and output."""
    return Shell(monkeypatch, capsys)
