"""`python -m tests.chaos`: stop a tiny study at its file events in every way, and print how often nothing was lost."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.faults import KINDS, Kind
from tests.chaos.runs import import_everything
from tests.chaos.trials import Laboratory, Trial

HEAD = "| stopped by | events | trials | equal | lost | left over |\n|---|---|---|---|---|---|"


def main() -> int:
    """Run the trials that were asked for; exit code 1 when one of them was not good."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/chaos"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--every", type=int, default=1, help="every how many events a run is stopped")
    parser.add_argument("--pairs", type=int, default=20, help="of each kind: stopped, and the next run stopped again")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import_everything()
    options.work.mkdir(parents=True, exist_ok=True)
    laboratory, rng = Laboratory(options.work.resolve()), random.Random(options.seed)
    print(f"{len(laboratory.events)} file events, {len(laboratory.expected)} files\n{HEAD}", flush=True)
    bad = [_row(laboratory, kind, options, rng) for kind in options.kinds]
    return int(any(bad))


def _row(laboratory: Laboratory, kind: Kind, options: argparse.Namespace, rng: random.Random) -> bool:
    """Try one kind of fault and print its line; returns whether a trial was not good."""
    began, trials = time.monotonic(), []
    for at in _numbers(laboratory.representative_events(), options.every, options.pairs, rng):
        trials.append(laboratory.trial(at, kind))
        if not trials[-1].good:
            print(trials[-1], file=sys.stderr, flush=True)
    print(f"{_line(kind, len(laboratory.events), trials)} {time.monotonic() - began:.0f} s", flush=True)
    return not all(trial.good for trial in trials)


def _numbers(events: Sequence[int], every: int, pairs: int, rng: random.Random) -> Iterator[Sequence[int]]:
    """Every so many events by itself, beginning anywhere; then pairs, the second counted in the run after the first."""
    yield from ((number,) for number in events[rng.randrange(every) :: every])
    for _ in range(pairs):
        first = rng.choice(events)
        yield first, rng.randint(1, max(1, events[-1] - first))


def _line(kind: Kind, events: int, trials: Sequence[Trial]) -> str:
    equal = sum(not trial.lost and not trial.differ for trial in trials)
    lost, left_over = sum(trial.lost for trial in trials), sum(bool(trial.left_over) for trial in trials)
    return f"| {kind} | {events} | {len(trials)} | {equal} | {lost} | {left_over} |"


if __name__ == "__main__":
    sys.exit(main())
