"""The demo's training on a processor: one command of ours, and the four of the scripts that do the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bench import studies
from bench.processes import Started, side_by_side, start_module
from bench.records import Record, steady_rate
from bench.studies import Training
from bench.table import Figure, Row, figure
from bench.tables import Bench

RANKS = (1, 4, 16)
DEMO = (
    Training("full", 320, 2, text_encoder=True, snr_gamma=5.0, learning_rate=3e-4),
    Training(
        "lora", 240, 2, RANKS, text_encoder=True, snr_gamma=5.0, learning_rate=3e-3, more={"targets": "transformer"}
    ),
)
"""What the demo trains, as `limner.json` of the miniature has it; the script's LoRA does less, see `NOTE`."""
ARITHMETICS = ("fp32", "bf16")  # of the scripts: each is counted in the faster one
NOTE = "the scripts' LoRAs have fewer layers (attention alone) and no Min-SNR weighting"


@dataclass(frozen=True)
class Script:
    """One command of a script."""

    training: Training
    rank: int
    arithmetic: str

    @property
    def name(self) -> str:
        """What it trains, in one word."""
        return f"lora-{self.rank}" if self.rank else self.training.method


def peer_cpu_demo(bench: Bench, steps_share: float) -> list[Row]:
    """Whole commands on two threads each; with a share of the steps the steps that are left out count at their rate."""
    taken = [replace(training, steps=_taken(training, steps_share)) for training in DEMO]
    scripts = [
        Script(training, rank, arithmetic)
        for training in taken
        for rank in training.ranks or (0,)
        for arithmetic in (ARITHMETICS if bench.peers else ())
    ]
    jobs = {"ours": lambda cores: _start_ours(bench, taken, cores)} | {
        f"{script.name}-{script.arithmetic}": _starting(bench, script) for script in scripts
    }
    _ = bench.ground.photos  # drawn before the processes' threads ask for them
    records = side_by_side(jobs)
    ours = whole_figure(records["ours"], taken) if "ours" in records else None
    found = {}
    for script in scripts:
        record = records.get(f"{script.name}-{script.arithmetic}")
        if record is not None:
            found.setdefault(script.name, {})[script.arithmetic] = whole_figure(record, [script.training])
    note = "" if steps_share == 1 else f"; of the steps {steps_share:.0%} were taken, the others count at their rate"
    rows = [_script_row(name, sides) for name, sides in found.items()]
    complete = len(found) == 1 + len(RANKS)
    return [Row("all of the demo's training", ours, _sum(found) if complete else None, "s", NOTE + note), *rows]


def whole_figure(record: Record, taken: Sequence[Training]) -> Figure:
    """What the whole command takes: as measured, and the steps that were left out at the steady rate of their kind."""
    rates, missing = [], 0.0
    for training, marks in zip(taken, _by_task(record.marks), strict=True):
        warm_up = marks[0][0] + training.steps // 4
        rates.append(steady_rate(replace(record, marks=marks), warm_up).median)
        missing += rates[-1] * (_whole(training) - training.steps)
    steps = ", ".join(f"{1000 * rate:.0f} ms" for rate in rates)
    return figure(record, [record.ended - record.started + missing], None, f"a steady step {steps}")


def _by_task(marks: Sequence[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Marks of one task after another: where one begins, the units done so far are marked once more."""
    tasks = [[marks[0]]]
    for earlier, later in pairwise(marks):
        if later[0] == earlier[0]:
            tasks.append([])
        tasks[-1].append(later)
    return tasks


def _taken(training: Training, share: float) -> int:
    return max(8, round(training.steps * share))


def _whole(training: Training) -> int:
    return next(demo.steps for demo in DEMO if demo.method == training.method)


def _start_ours(bench: Bench, taken: Sequence[Training], cores: Sequence[int]) -> Started:
    folder = bench.fresh("cpu-demo-ours")
    study = studies.write_study(folder, bench.ground, studies.training_tables(bench.ground, list(taken)))
    record = folder / "record.json"
    arguments: list[object] = [study, folder / "run", "--what", "train", "--every", 1, "--device", "cpu"]
    return start_module("bench.ours", record, arguments, cores), record


def _starting(bench: Bench, script: Script) -> Callable[[Sequence[int]], Started]:
    def start(cores: Sequence[int]) -> Started:
        assert bench.peers is not None  # else there are no scripts
        folder = bench.fresh(f"cpu-demo-{script.name}-{script.arithmetic}")
        record = folder / "record.json"
        arguments: list[object] = [bench.peers / script.training.script]
        arguments += script.training.script_arguments(
            bench.ground, folder / "out", arithmetic=script.arithmetic, rank=script.rank
        )
        return start_module("bench.observed", record, arguments, cores), record

    return start


def _script_row(name: str, sides: Mapping[str, Figure]) -> Row:
    best = min(sides, key=lambda arithmetic: sides[arithmetic].median)
    others = "; ".join(
        f"in {arithmetic} {side.median:.1f} s, {side.note}" for arithmetic, side in sides.items() if arithmetic != best
    )
    return Row(f"the script's {name}, {best}", None, sides[best], "s", others)


def _sum(found: Mapping[str, Mapping[str, Figure]]) -> Figure:
    """The four commands one after another, each in its faster arithmetic."""
    best = [min(sides.values(), key=lambda side: side.median) for sides in found.values()]
    return Figure((sum(side.median for side in best),), resident_bytes=max(side.resident_bytes or 0 for side in best))
