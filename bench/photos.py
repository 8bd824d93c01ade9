"""What it costs to prepare photos: processor time, photos a second and memory, for drawn photos of 12 megapixels."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from limner.config import Prepare
from limner.decoding import Decoders, ReadingRules
from limner.stages.prepare import prepare

COUNT, SIZE = 48, (4000, 3000)
PROCESSES = 2
EVERY_SECONDS = 0.02
MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What one piece of work took."""

    work: str
    photos: int
    seconds: float
    user_seconds: float
    system_seconds: float
    peak_bytes: int  # above what this process had before

    def line(self) -> str:
        """A row of the table."""
        times = [1000 * seconds / self.photos for seconds in (self.user_seconds, self.system_seconds)]
        rate = self.photos / self.seconds
        on_two = PROCESSES * 1000 / sum(times)
        peak = self.peak_bytes / MIB
        return f"| {self.work} | {times[0]:.0f} | {times[1]:.0f} | {on_two:.0f} | {rate:.1f} | {peak:.0f} |"


def photos(work: Path) -> str:
    """The table: decoding alone, the plain path to crops, and with heads looked for and photos compared."""
    folder = _drawn(work / "photos-12mp")
    files = sorted(folder.iterdir())
    rules = ReadingRules(512)

    def decode() -> None:
        with Decoders(PROCESSES) as decoders:
            for _ in decoders.each([(file, rules) for file in files], lambda place, photo: photo.size):
                pass

    def made(focus: str) -> Callable[[], None]:
        def make() -> None:
            out = work / f"photos-{focus}"
            shutil.rmtree(out, ignore_errors=True)
            _prepared(folder, out, focus)

        return make

    costs = [_cost("decode", decode), _cost("plain path to crops", made("center")), _cost("with heads", made("auto"))]
    head = (
        "| work | user ms a photo | system ms a photo | photos/s of two free cores | photos/s here | peak MiB above |"
    )
    of = f"{COUNT} JPEG photos of {SIZE[0]}x{SIZE[1]}, {files[0].stat().st_size / 1e6:.1f} MB each, to 512 px"
    return "\n".join([f"## Photos: {of}", "", head, "|---|---|---|---|---|---|", *(cost.line() for cost in costs)])


def _prepared(folder: Path, out: Path, focus: str) -> None:
    prepare(folder, out, Prepare.model_validate({"size_px": 512, "focus": focus}))


def _cost(work: str, do: Callable[[], None]) -> Cost:
    """Done twice, as looking at the memory all the time costs as much as a part of the work."""
    with _peak() as peak:
        do()
    before, began = _processor(), time.perf_counter()
    do()
    seconds, after = time.perf_counter() - began, _processor()
    return Cost(work, COUNT, seconds, after[0] - before[0], after[1] - before[1], peak[0])


def _processor() -> tuple[float, float]:
    """User and system seconds of this process and of those that it started and that ended."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + others.ru_utime, own.ru_stime + others.ru_stime


@contextlib.contextmanager
def _peak() -> Iterator[list[int]]:
    """Most resident bytes of this process and its children together, above what it has now; looked at all the time."""
    base, peak, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_SECONDS):
            peak[0] = max(peak[0], _resident() - base)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _resident() -> int:
    """Proportional share of memory of this process and its children, in bytes (Linux)."""
    total = 0
    children = Path(f"/proc/{os.getpid()}/task")
    pids = {str(os.getpid())}
    for task in children.iterdir():
        with contextlib.suppress(OSError):
            pids.update((task / "children").read_text().split())
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                total += int(line.split()[1]) * 1024 if line.startswith("Pss:") else 0
    return total


def _drawn(folder: Path) -> Path:
    """Photos with as much detail as a phone's: soft shapes, edges, and a sensor's noise."""
    if folder.is_dir() and len(list(folder.iterdir())) == COUNT:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index in range(COUNT):
        rng = np.random.default_rng(index)
        ground = Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        pen = ImageDraw.Draw(ground)
        for _ in range(400):
            x, y, radius = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1]), rng.integers(5, 150)
            pen.ellipse((x, y, x + radius, y + radius), fill=tuple(int(part) for part in rng.integers(0, 255, 3)))
        noise = rng.normal(0, 3, (SIZE[1], SIZE[0], 1)).astype(np.float32)
        pixels = np.clip(np.asarray(ground) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.jpg", quality=90)
    return folder
