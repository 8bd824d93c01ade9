"""How Triton kernels are declared here: a launch runs the kernel, or only compiles it (`compile_in_parallel`)."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import triton

from limner.kernels.parallel_compilation import current_compiler


class Kernel:
    """A Triton kernel that is launched as `kernel[grid](…)`."""

    def __init__(self, function: Callable[..., Any], unspecialised: Sequence[str]) -> None:
        self.name = f"{function.__module__}.{function.__name__}"
        self._jit: Any = triton.jit(function, do_not_specialize=list(unspecialised))

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """A function that launches it over a grid of programs."""
        return partial(self._launch, grid)

    def _launch(self, grid: tuple[int, ...], *arguments: Any, **settings: Any) -> None:
        compiler = current_compiler()
        if compiler is None:
            self._jit[grid](*arguments, **settings)
        else:
            compiler.submit(self.name, self._jit.warmup, grid, arguments, settings)


def kernel(*, unspecialised: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Kernel]:
    """Declare a kernel. It is compiled once for all values of the integer arguments named in `unspecialised`."""
    return partial(Kernel, unspecialised=unspecialised)
