"""How kernels of Triton are declared here: launched as ever, or compiled ahead where someone asks for that."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import triton

from limner.kernels.ahead import compiling


class Kernel:
    """A function of Triton's that is launched as `kernel[grid](…)`."""

    def __init__(self, function: Callable[..., Any], any_value: Sequence[str]) -> None:
        self.name = f"{function.__module__}.{function.__name__}"
        self._jit: Any = triton.jit(function, do_not_specialize=list(any_value))

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """What launches it over a grid of programs."""
        return partial(self._launch, grid)

    def _launch(self, grid: tuple[int, ...], *arguments: Any, **settings: Any) -> None:
        taking = compiling()
        if taking is None:
            self._jit[grid](*arguments, **settings)
        else:
            taking.take(self.name, self._jit.warmup, grid, arguments, settings)


def kernel(*, any_value: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Kernel]:
    """Declare a kernel. Of the numbers named in `any_value` nothing is assumed: one compiled form does for them all."""
    return partial(Kernel, any_value=any_value)
