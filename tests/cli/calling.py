"""Calls the command line in this process, as a shell would call it in another."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from limner.cli import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `limner ARGUMENTS`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Outcome:
        self.monkeypatch.setattr("sys.argv", ["limner", *map(str, arguments)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self.capsys.readouterr()
        return Outcome(int(ended.value.code or 0), printed.out, printed.err)
