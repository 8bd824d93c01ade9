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
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from limner.decoding.reading import Photo, ReadingRules, RefusedPhotoError
from limner.decoding.worker import receive, send
from limner.errors import LimnerError

DECODING_SECONDS = 20.0
START_SECONDS = 60.0
PHOTOS_A_PROCESS = 4  # starting one takes as long as decoding a few photos
MOST_PROCESSES = 8
MOST_PIXELS_AT_ONCE = 50_000_000  # being decoded in all processes together; one larger photo is decoded alone

# Large pieces of memory are used again for the next photo: a fifth of a decoder's time went into new pages.
MEMORY_KEPT = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "134217728", "PILLOW_BLOCKS_MAX": "2"}


class _Process:
    """One process, and the clock that kills it."""

    def __init__(self) -> None:
        source = str(Path(__file__).parents[2])
        paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        alone = {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | MEMORY_KEPT
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "limner.decoding.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | alone,
        )
        self.timed_out = False
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

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a message and wait for the answer."""
        with self.within(seconds):
            send(self.requests, message)
            return receive(self.answers)

    def pixels(self, shape: Sequence[int], seconds: float) -> np.ndarray:
        """The pixels that follow an answer."""
        pixels = np.empty(shape, np.uint8)
        with self.within(seconds):
            if self.answers.readinto(pixels.data.cast("B")) != pixels.nbytes:
                raise EOFError
        return pixels

    def end(self) -> int:
        """Kill it; returns the code that it ended with."""
        self.popen.kill()
        code = self.popen.wait()
        for stream in (self.requests, self.answers):
            with contextlib.suppress(OSError):
                stream.close()
        return code


class _Room:
    """Lets decoders in while there is room for their pixels."""

    def __init__(self, pixels: int) -> None:
        self._free, self._changed, self._inside, self._most = pixels, threading.Condition(), 0, pixels

    @contextlib.contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        taken = min(pixels, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


class Decoders:
    """Processes that decode photos by the same rules, each one photo at a time; to be used in a `with` block."""

    def __init__(self, processes: int, *, seconds: float = DECODING_SECONDS) -> None:
        self.seconds, self.count = seconds, processes
        self._idle: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        for _ in range(processes):
            self._idle.put(None)
        self._room = _Room(MOST_PIXELS_AT_ONCE)
        self.running: set[_Process] = set()

    @classmethod
    def for_photos(cls, count: int) -> Decoders:
        """As many processes as pay for `count` photos on this machine."""
        return cls(max(1, min(os.cpu_count() or 1, MOST_PROCESSES, -(-count // PHOTOS_A_PROCESS))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self.running):
            process.end()

    def read(self, path: Path, rules: ReadingRules) -> Photo:
        """Decode one photo. Raises RefusedPhotoError as `read_photo` does, and when the decoder crashes or hangs."""
        process = self._idle.get()
        try:
            process = process or self._started()
            return self._decoded(process, path, rules)
        except (EOFError, OSError, ValueError) as error:
            assert process is not None
            self.running.discard(process)
            code, slow, process = process.end(), process.timed_out, None
            raise RefusedPhotoError(_why_it_ended(code, self.seconds if slow else None)) from error
        finally:
            self._idle.put(process)

    def read_all(self, wanted: Sequence[tuple[Path, ReadingRules]]) -> Iterator[Photo | RefusedPhotoError]:
        """Decode photos; what came of each, in their order. Few are read ahead, so that many need little memory."""
        ahead: deque[Future[Photo | RefusedPhotoError]] = deque()
        with ThreadPoolExecutor(self.count) as threads:
            try:
                for path, rules in wanted:
                    ahead.append(threads.submit(self._outcome, path, rules))
                    if len(ahead) > self.count:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
                if ahead:  # the caller gave up
                    self.__exit__()

    def _outcome(self, path: Path, rules: ReadingRules) -> Photo | RefusedPhotoError:
        try:
            return self.read(path, rules)
        except RefusedPhotoError as error:
            return error

    def _started(self) -> _Process:
        process = _Process()
        self.running.add(process)
        return process

    def _decoded(self, process: _Process, path: Path, rules: ReadingRules) -> Photo:
        answer = process.ask({"path": str(path.absolute()), "rules": asdict(rules)}, self.seconds)
        if "pixels" in answer:
            with self._room.of(answer["pixels"]):
                answer = process.ask({}, self.seconds)
        if "refused" in answer:
            raise RefusedPhotoError(answer["refused"])
        width, height = answer["source_size"]
        return Photo(process.pixels(answer["shape"], self.seconds), (width, height), answer["notes"])


def _why_it_ended(code: int, seconds: float | None) -> str:
    if seconds is not None:
        return f"decoding took longer than {seconds:g} seconds and was stopped"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
    return f"its decoder crashed ({how}); the file is damaged, or made to do that"
