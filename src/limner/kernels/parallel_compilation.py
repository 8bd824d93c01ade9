"""Compiles Triton kernels in parallel before they are needed.

Triton compiles a kernel when it is first launched, and everything waits: a fifth of a second for each of about two
hundred specialisations, before the first picture and before the first step. Most of that time is spent outside Python.
So the work that will be captured is first run once in a block of `compile_in_parallel`: there, launches compute nothing
and give their kernels to threads, and torch's own operations compute from uninitialised memory.

A kernel whose results are used as addresses in memory must run: those are declared with `triton.jit`
(`philox_triton`).
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
SWITCH_SECONDS = 0.0005  # how long a thread holds the interpreter: with more, the main thread waits for the compilers
ALIGNED_BYTES = 16  # tensors that begin at multiples of it and others have separate specialisations

Launch = Callable[..., Any]


class KernelCompiler:
    """Compiles the kernels of launches in threads, each specialisation once."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._threads = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "compile")
        self._seen: set[Any] = set()

    def submit(
        self, kernel: str, warm_up: Launch, grid: tuple[int, ...], arguments: Sequence[Any], settings: dict[str, Any]
    ) -> None:
        """Compile a launch's kernel in a thread; the launch's tensors are not kept."""
        specialisation = (kernel, *map(_specialised_on, arguments), *settings.items())
        if specialisation in self._seen or any(_is_unaligned(argument) for argument in arguments):
            return  # unaligned ones are compiled when they are launched
        self._seen.add(specialisation)
        argument_types = [argument.dtype if isinstance(argument, Tensor) else argument for argument in arguments]
        self._threads.submit(self._compile, warm_up, argument_types, grid, settings)

    def _compile(self, warm_up: Launch, arguments: list[Any], grid: tuple[int, ...], settings: dict[str, Any]) -> None:
        with torch.cuda.device(self._device):  # a new thread uses device 0; -1 leaves it so
            warm_up(*arguments, grid=grid, **settings)  # an error here is raised again when it is launched

    def finish(self) -> None:
        """Wait until all are compiled."""
        self._threads.shutdown(wait=True)


# Process-wide: the backward pass launches its kernels from autograd's threads.
_compiler: KernelCompiler | None = None


def current_compiler() -> KernelCompiler | None:
    """The compiler that launches go to now, if there is one."""
    return _compiler


@contextlib.contextmanager
def compile_in_parallel(device: torch.device) -> Iterator[None]:
    """A block whose kernels are compiled in parallel and not run; all are compiled when it ends."""
    global _compiler
    usual_interval = sys.getswitchinterval()
    _compiler = KernelCompiler(-1 if device.index is None else device.index)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        compiler, _compiler = _compiler, None
        compiler.finish()
        sys.setswitchinterval(usual_interval)


def _specialised_on(argument: Any) -> Any:
    """What Triton's code may depend on; for an integer whether it is 1, divisible by 16, and wider than 31 bits."""
    if isinstance(argument, Tensor):
        return argument.dtype
    if isinstance(argument, int) and not isinstance(argument, bool):
        return argument == 1, argument % ALIGNED_BYTES == 0, argument.bit_length() > 31
    return type(argument)


def _is_unaligned(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.data_ptr() % ALIGNED_BYTES != 0
