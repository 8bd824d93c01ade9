"""Kernels compiled side by side before they are needed.

Triton compiles a kernel where it is first launched, and everything waits: a fifth of a second for each of some two
hundred forms, before the first picture and before the first step. Most of that is spent outside Python. So what is
rehearsed before it is captured is gone through once in `compiled_ahead`: launches compute nothing there and hand their
kernels to threads; what torch itself computes, it computes from whatever lay in memory.

A kernel whose results are places in memory must not be left out: those stay with `triton.jit` (`philox_triton`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

MOST_THREADS = 8
SWITCH_SECONDS = 0.0005  # how long a thread keeps Python to itself: with more, what is rehearsed waits for compilers
ALIGNED_BYTES = 16  # Triton compiles for tensors that begin at multiples of it, and anew for others

Launch = Callable[..., Any]


class Compiling:
    """Takes launches and compiles their kernels in threads, each form once."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._threads = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "compile")
        self._seen: set[Any] = set()

    def take(
        self, kernel: str, warm_up: Launch, grid: tuple[int, ...], arguments: Sequence[Any], settings: dict[str, Any]
    ) -> None:
        """Note a launch; its tensors are not kept."""
        form = (kernel, *map(_form, arguments), *settings.items())
        if form in self._seen or any(_is_unaligned(argument) for argument in arguments):
            return  # the second is compiled when it is launched
        self._seen.add(form)
        told = [argument.dtype if isinstance(argument, Tensor) else argument for argument in arguments]
        self._threads.submit(self._compile, warm_up, told, grid, settings)

    def _compile(self, warm_up: Launch, arguments: list[Any], grid: tuple[int, ...], settings: dict[str, Any]) -> None:
        with torch.cuda.device(self._device):  # a thread begins with the first; -1 leaves it at that
            warm_up(*arguments, grid=grid, **settings)  # what fails here will fail, and be told of, when it is launched

    def finish(self) -> None:
        """Wait until all are compiled."""
        self._threads.shutdown(wait=True)


# Process-wide, as the backward pass launches its kernels from threads of autograd's own.
_compiling: Compiling | None = None


def compiling() -> Compiling | None:
    """Who takes launches at this time, if anyone."""
    return _compiling


@contextlib.contextmanager
def compiled_ahead(device: torch.device) -> Iterator[None]:
    """A block whose kernels are compiled side by side and not run; when it ends all are compiled."""
    global _compiling
    usual = sys.getswitchinterval()
    _compiling = Compiling(-1 if device.index is None else device.index)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        taking, _compiling = _compiling, None
        taking.finish()
        sys.setswitchinterval(usual)


def _form(argument: Any) -> Any:
    """What Triton's compiled code may depend on; of a number whether it is one, and a multiple of 16."""
    if isinstance(argument, Tensor):
        return argument.dtype
    if isinstance(argument, int) and not isinstance(argument, bool):
        return argument == 1, argument % ALIGNED_BYTES == 0, argument.bit_length() > 31
    return type(argument)


def _is_unaligned(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.data_ptr() % ALIGNED_BYTES != 0
