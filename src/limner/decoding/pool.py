"""Processes that decode photos, so that a decoder which crashes or hangs costs one photo and not the run."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np

from limner.decoding.reading import ReadingRules, RefusedPhotoError
from limner.decoding.worker import receive, send
from limner.errors import LimnerError

Result = TypeVar("Result")
DECODING_SECONDS = 20.0
START_SECONDS = 60.0
PHOTOS_A_PROCESS = 4  # starting a process takes as long as decoding a few photos
MOST_PROCESSES = 8
MOST_PIXELS_AT_ONCE = 50_000_000  # decoded and held by all processes together; a larger photo is decoded alone

# Keep large allocations for the next photo: a fifth of a decoder's time was spent on new pages.
MEMORY_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
    "PILLOW_BLOCKS_MAX": "2",
}


class _Process:
    """One process, and the clock that kills it."""

    def __init__(self) -> None:
        source = str(Path(__file__).parents[2])
        paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        alone = {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | MEMORY_SETTINGS
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "limner.decoding.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | alone,
        )
        self.timed_out = self.lost = False
        self.requests = cast(io.BufferedWriter, self.popen.stdin)
        self.answers = cast(io.BufferedReader, self.popen.stdout)
        try:
            with self.within(START_SECONDS):
                receive(self.answers)
        except EOFError:
            self.end()
            raise LimnerError("the process that decodes photos could not be started; is limner installed?") from None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill the process when the block takes longer."""

        def kill() -> None:
            self.timed_out = True
            self.popen.kill()

        clock = threading.Timer(seconds, kill)
        clock.daemon = True
        clock.start()
        try:
            yield
        finally:
            clock.cancel()

    def ask(self, message: dict[str, Any], seconds: float) -> tuple[dict[str, Any], np.ndarray]:
        """Send a message and wait for the answer and the pixels that come with it, if any.

        Raises RefusedPhotoError for an answer that refuses, and when the process ends or takes too long: it is `lost`.
        """
        pixels = np.empty(0, np.uint8)
        try:
            with self.within(seconds):
                send(self.requests, message)
                answer = receive(self.answers)
                if "shape" in answer:
                    pixels = np.empty(answer["shape"], np.uint8)
                    if self.answers.readinto(pixels.data.cast("B")) != pixels.nbytes:
                        raise EOFError
        except (EOFError, OSError, ValueError, MemoryError) as error:
            self.lost = True
            raise RefusedPhotoError(_why_it_ended(self.end(), seconds if self.timed_out else None)) from error
        if "refused" in answer:
            raise RefusedPhotoError(answer["refused"])
        return answer, pixels

    def end(self) -> int:
        """Kill it; returns the code that it ended with."""
        self.popen.kill()
        code = self.popen.wait()
        for stream in (self.requests, self.answers):
            with contextlib.suppress(OSError):
                stream.close()
        return code


@dataclass(frozen=True)
class HeldPhoto:
    """A photo in the memory of the process that decoded it, which cuts crops from it on request."""

    size: tuple[int, int]  # width and height in px as read
    source_size: tuple[int, int]  # and before any reduction, upright
    notes: list[str]
    view: np.ndarray  # (h, w, 3) uint8 sRGB, a small copy to look at
    view_scale: int  # px of the read photo for each px of the view, along a side
    ask: Callable[[dict[str, Any]], tuple[dict[str, Any], np.ndarray]]

    def cut(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
        """The part `box` (x0, y0, x1, y1) px of the read photo, resized (Lanczos) to `size` (width, height): (height,
        width, 3) uint8. Raises RefusedPhotoError when the process crashes or hangs over it."""
        return self.ask({"cut": box, "size": size})[1]


class _MemoryBudget:
    """Lets photos be decoded while their pixels fit in a budget."""

    def __init__(self, pixels: int) -> None:
        self._free, self._changed, self._inside, self._most = pixels, threading.Condition(), 0, pixels

    @contextlib.contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        reserved = min(pixels, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= reserved)
            self._free -= reserved
        try:
            yield
        finally:
            with self._changed:
                self._free += reserved
                self._changed.notify_all()


class Decoders:
    """Processes that decode photos by the same rules, each one photo at a time; used in a `with` block."""

    def __init__(self, processes: int, *, seconds: float = DECODING_SECONDS) -> None:
        self.seconds, self.count = seconds, processes
        self._idle: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        for _ in range(processes):
            self._idle.put(None)
        self._budget = _MemoryBudget(MOST_PIXELS_AT_ONCE)
        self.running: set[_Process] = set()

    @classmethod
    def for_photos(cls, count: int) -> Decoders:
        """As many processes as are worthwhile for `count` photos on this machine."""
        return cls(max(1, min(os.cpu_count() or 1, MOST_PROCESSES, -(-count // PHOTOS_A_PROCESS))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self.running):
            process.end()

    @contextlib.contextmanager
    def hold(self, path: Path, rules: ReadingRules) -> Iterator[HeldPhoto]:
        """One photo, decoded and held by a process while the block runs.

        Raises RefusedPhotoError as `read_photo` does, and when the decoder crashes or hangs.
        """
        process = self._idle.get()
        try:
            with contextlib.ExitStack() as room:
                process = process or self._started()
                yield self._decoded(process, path, rules, room)
                with contextlib.suppress(RefusedPhotoError):  # the work is already done
                    process.ask({"release": True}, self.seconds)
        finally:
            if process is not None and process.lost:
                self.running.discard(process)
                process = None
            self._idle.put(process)

    def read(self, path: Path, rules: ReadingRules) -> tuple[np.ndarray, list[str]]:
        """All of a picture, (H, W, 3) uint8 sRGB, as large as `rules` let it be read, and notes on it.

        Raises RefusedPhotoError as `hold`.
        """
        with self.hold(path, rules) as photo:
            return photo.cut((0, 0, *photo.size), photo.size), photo.notes

    def each(
        self, wanted: Sequence[tuple[Path, ReadingRules]], work: Callable[[int, HeldPhoto], Result]
    ) -> Iterator[Result | RefusedPhotoError]:
        """The result of `work` for every photo (called with its index in `wanted` and the photo), or why it was
        refused.

        In their order. `work` runs in as many threads as there are processes; only a few photos are processed ahead of
        the consumer, so that many need little memory.
        """
        ahead: deque[Future[Result | RefusedPhotoError]] = deque()
        with ThreadPoolExecutor(self.count) as threads:
            try:
                for index, (path, rules) in enumerate(wanted):
                    ahead.append(threads.submit(self._outcome, index, path, rules, work))
                    if len(ahead) > self.count:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
                if ahead:  # the caller gave up
                    self.__exit__()

    def _outcome(
        self, index: int, path: Path, rules: ReadingRules, work: Callable[[int, HeldPhoto], Result]
    ) -> Result | RefusedPhotoError:
        try:
            with self.hold(path, rules) as photo:
                return work(index, photo)
        except RefusedPhotoError as error:
            return error

    def _started(self) -> _Process:
        process = _Process()
        self.running.add(process)
        return process

    def _decoded(self, process: _Process, path: Path, rules: ReadingRules, room: contextlib.ExitStack) -> HeldPhoto:
        def ask(message: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
            return process.ask(message, self.seconds)

        answer, view = ask({"path": str(path.absolute()), "rules": asdict(rules)})
        if "pixels" in answer:
            room.enter_context(self._budget.of(answer["pixels"]))
            answer, view = ask({})
        size, source_size = (tuple(answer[name]) for name in ("size", "source_size"))
        return HeldPhoto(size, source_size, answer["notes"], view, answer["view_scale"], ask)


def _why_it_ended(code: int, seconds: float | None) -> str:
    if seconds is not None:
        return f"decoding took longer than {seconds:g} seconds and was stopped"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
    return f"its decoder crashed ({how}); the file is damaged or malicious"
