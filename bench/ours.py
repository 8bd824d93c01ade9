"""Take a study through limner's corridor in this process and note how its work advances.

`python -m bench.ours RECORD STUDY OUT --what STAGE --task STAGE …`. Marks are taken while the stage of `--task`
advances, every `--every` units. A training step may be under way when it is reported; there a mark waits for the GPU.
A picture is on the host by then, and to wait would be to wait for the batch after it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limner.events import Event, Notice, Progressed
from limner.progress import Progress

STARTED = time.time()


class ClockProgress(Progress):
    """A progress that keeps times; it may start a profiler at one unit and stop it at another."""

    def __init__(self, title: str, every: int, profiler: Any = None, profiled: Sequence[int] = (0, 0)) -> None:
        super().__init__(self.hear, every_seconds=0)
        self.title, self.every = title, every
        self.profiler, self.profiled = profiler, profiled
        self.marks: list[tuple[int, float]] = []
        self.notices: list[str] = []
        self.units_profiled = self.total_units = self._before = 0
        self.begun: int | None = None

    def hear(self, event: Event) -> None:
        """Note how the activity advances, if it is the one that is timed, and keep what limner says."""
        if isinstance(event, Notice):
            self.notices.append(event.message)
        if not isinstance(event, Progressed) or (event.stage, event.activity) != (self.title, ""):
            return
        if event.step == 0 and not event.last:
            self.total_units += event.total
            self._before = self.marks[-1][0] if self.marks else 0
            self._mark(self._before)
        elif not event.last and self._before + event.step - self.marks[-1][0] >= self.every:
            self._mark(self._before + event.step)

    def _mark(self, units: int) -> None:
        if self.title.startswith("train"):
            _wait_for_gpu()
        first, last = self.profiled
        if self.profiler is not None and self.begun is not None and not self.units_profiled and units >= last:
            self.units_profiled = units - self.begun
            self.profiler.__exit__(None, None, None)
        self.marks.append((units, time.time()))
        if self.profiler is not None and self.begun is None and units >= first:
            self.begun = units
            self.profiler.__enter__()


def _wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _class_images(study: Path, out: Path, device: Any, progress: Any) -> None:
    """The class images alone, whatever the variants say."""
    from limner.opening import open_study
    from limner.running.run import Run

    run = Run(open_study(study), out, device, progress=progress)
    run.begin()
    if run.class_set is None:
        raise SystemExit("the study makes no class images")


def _render(study: Path, out: Path, device: Any, progress: Any) -> None:
    """The grid of the untouched base alone, without any variant."""
    from limner.opening import open_study
    from limner.running.run import Run
    from limner.stages.render import render

    run = Run(open_study(study), out, device, progress=progress)
    render(run.rendering, run.study.render, [], out / "renders")


def _corridor(until: Any) -> Callable[[Path, Path, Any, Any], None]:
    from limner.study import run_study

    def take(study: Path, out: Path, device: Any, progress: Any) -> None:
        run_study(study, out, until=until, device=device, progress=progress)

    return take


def main() -> None:
    """Run, and write the record even when the run fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.ours", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--what", default="train", help="class-images, base-render, or a stage to go as far as")
    parser.add_argument("--task", default="train", help="stage whose own units are timed")
    parser.add_argument("--every", type=int, default=10, help="units between two marks")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--profile", type=int, nargs=2, help="split the GPU's time by kernels between these units")
    options = parser.parse_args()
    from bench.kernels import gpu_profiler, kernel_split
    from bench.records import Record, memory_used
    from limner.base.devices import choose_device

    profiler = gpu_profiler() if options.profile else None
    progress = ClockProgress(options.task, options.every, profiler, options.profile or (0, 0))
    take = {"class-images": _class_images, "base-render": _render}.get(options.what) or _corridor(options.what)
    try:
        take(options.study, options.out, choose_device(options.device), progress)
        _wait_for_gpu()
    finally:
        split = kernel_split(profiler, progress.units_profiled) if progress.units_profiled else None
        total, note = progress.total_units, "; ".join(progress.notices)
        record = Record(
            STARTED, time.time(), progress.marks, split=split, total_units=total, note=note, **memory_used()
        )
        record.write(options.record)


if __name__ == "__main__":
    main()
