"""Trials: a run is stopped once or several times, the next one finishes, and what it leaves is compared."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.comparing import digests, unfinished
from tests.chaos.faults import Fault, Kind
from tests.chaos.runs import Ended, run
from tests.studies import write_study
from tests.tiny import write_tiny_base

CHANGES = {
    'method = "full"\ncheckpoint_every_steps = 2': 'method = "full"\ncheckpoint_every_steps = 1\nsteps = 2',
    "rank = [1, 2]\nprior_preservation = true": "rank = [1, 2]\nsteps = 2\nprior_preservation = true",
    '[[variants]]\nname = "on top"\nmethod = "lora"\nstart_from = "full"\n\n': "",
    '[[render.prompts]]\nname = "garden"\nprompt = "{subject} in the garden"\n\n': "",
    "[control]\n": '[measure]\nlikeness = ["base"]\ncrop = "whole"\n\n[control]\n',
}
"""Small: every stage does something, and a run takes two seconds."""


@dataclass(frozen=True)
class Trial:
    """What came of stopping at the events of these numbers (the second counted in the second run)."""

    at: tuple[int, ...]
    kind: Kind
    stopped: tuple[Ended, ...]
    finished: Ended
    differ: tuple[str, ...]
    left_over: tuple[str, ...]

    @property
    def lost(self) -> bool:
        """Whether the run could not be finished."""
        return self.finished.code != 0

    @property
    def good(self) -> bool:
        """Whether everything is as if nothing had happened."""
        orphans = any(ended.orphans for ended in (*self.stopped, self.finished))
        return not (self.lost or self.differ or self.left_over or orphans)

    def __str__(self) -> str:
        codes = ", ".join(str(ended.code) for ended in self.stopped)
        said = self.finished.said.strip().splitlines()[-1:] if self.lost else []
        orphans = [pid for ended in (*self.stopped, self.finished) for pid in ended.orphans]
        return (
            f"{self.kind} at {self.at}: ended with {codes}, then {self.finished.code}; differ {list(self.differ[:4])}; "
            f"left over {list(self.left_over[:4])}; orphans {orphans} {said}"
        )


@dataclass
class Laboratory:
    """A tiny study, what it leaves when nothing goes wrong, and the number of its file events."""

    work: Path
    study: Path = field(init=False)
    expected: dict[str, str] = field(init=False)
    events: list[str] = field(init=False)

    def __post_init__(self) -> None:
        os.environ["XDG_CACHE_HOME"] = str(self.work / "cache")
        base = self.work / "base"
        if not base.is_dir():
            write_tiny_base(base)
        self.study = write_study(self.work / "study", base, changes=CHANGES)
        out, log = self._fresh("reference"), self.work / "events.tsv"
        ended = run(self._arguments(out), out, None, self.work / "said.txt", log)
        assert ended.code == 0, ended.said
        self.expected = digests(out)
        self.events = log.read_text().splitlines()
        again = self._fresh("again")
        assert run(self._arguments(again), again, None, self.work / "said.txt").code == 0
        assert digests(again) == self.expected, "two runs that nothing stopped differ"

    def trial(self, at: Sequence[int], kind: Kind) -> Trial:
        """Stop at each of these events in turn, then let a run finish."""
        out, said = self._fresh("trial"), self.work / "said.txt"
        stopped = tuple(run(self._arguments(out), out, Fault(number, kind), said) for number in at)
        finished = run(self._arguments(out), out, None, said)
        made = digests(out)
        differ = sorted(
            name for name in made.keys() | self.expected.keys() if made.get(name) != self.expected.get(name)
        )
        return Trial(tuple(at), kind, stopped, finished, tuple(differ), tuple(unfinished(out)))

    def representative_events(self) -> list[int]:
        """Numbers of the events to be tried: of many writes to one file, the first, the middle and the last."""
        chosen: list[int] = []
        for _, group in itertools.groupby(enumerate(self.events, 1), key=lambda row: row[1].split("\t")[1:]):
            numbers = [number for number, _ in group]
            chosen += sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
        return chosen

    def _arguments(self, out: Path) -> list[str]:
        return ["run", str(self.study), "--out", str(out), "--device", "cpu"]

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self.work / name, ignore_errors=True)
        (self.work / name).mkdir()
        return self.work / name / "run"
