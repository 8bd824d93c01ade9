"""Encodes and writes pictures while the next batch is computed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from limner.artifacts import write_whole
from limner.rendering.png import encode_png

THREADS = 2
WAITING = 64  # pictures that may wait to be written, so that a slow disk does not fill the memory


class PictureWriter:
    """Writes pictures atomically, in the background; leaving the block waits for all and raises the first error."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "limner-png")
        self._waiting: deque[Future[None]] = deque()

    def write(self, path: Path, image: np.ndarray, stamp: dict, parameters: str = "") -> None:
        """Hand over one picture (H, W, 3) uint8."""
        while len(self._waiting) >= WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(_write, path, image, stamp, parameters))

    def __enter__(self) -> PictureWriter:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for every picture; finished ones are kept even when the block was interrupted."""
        self._pool.shutdown(wait=True)
        if error is None:
            for future in self._waiting:
                future.result()


def _write(path: Path, image: np.ndarray, stamp: dict, parameters: str) -> None:
    write_whole(path, encode_png(image, stamp, parameters))
