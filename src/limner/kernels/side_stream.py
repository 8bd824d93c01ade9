"""A second CUDA stream for the gradients of weights, which nothing reads before the optimizer.

At small batches the products of a backward pass fill only part of a GPU. The gradient of a layer's weight is not
needed by the rest of the backward pass, so it can be computed while the main stream goes on with the layers before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

import torch
from torch import Tensor

from limner.kernels.scope import Scope

BUNDLE = 4  # pieces of work that are started together: each start makes both streams wait once
MOST_BUNDLES_RUNNING = 1  # the tensors that a bundle reads stay in memory until it is done


class SideStream(Scope):
    """A second stream of a CUDA device. Layers called in its block give it the gradients of their weights to compute.

    The gradients are added to the parameters' `grad`. The block must hold the whole backward pass; at its end the
    current stream waits for all gradients, and only then may they be read.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._stream = torch.cuda.Stream(device)
        self._bundle: list[tuple[Callable[[], object], tuple[Tensor, ...]]] = []
        self._running: deque[tuple[torch.Event, list]] = deque()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._start()
        self._bundle.clear()
        self._wait_until_running(0)

    def run(self, work: Callable[[], object], *read: Tensor) -> None:
        """Run `work` after everything submitted to the current stream so far; `read` are the tensors it reads."""
        self._bundle.append((work, read))
        if len(self._bundle) >= BUNDLE:
            self._start()
            self._wait_until_running(MOST_BUNDLES_RUNNING)

    def _start(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for work, _ in self._bundle:
                work()
            self._running.append((self._stream.record_event(), self._bundle))
        self._bundle = []

    def _wait_until_running(self, count: int) -> None:
        """Wait until at most `count` bundles run: the current stream may then reuse the memory that the others read."""
        current = torch.cuda.current_stream(self._stream.device)
        while len(self._running) > count:
            done, _ = self._running.popleft()
            current.wait_event(done)


def returned_gradients(
    side_stream: SideStream | None,
    parameters: Sequence[Tensor],
    gradients: Callable[[], Sequence[Tensor]],
    *read: Tensor,
) -> Sequence[Tensor | None]:
    """What a backward pass returns for `parameters`: `gradients()`, or None each where `side_stream` adds them."""
    if side_stream is None or not all(parameter.is_leaf for parameter in parameters):
        return gradients()

    def accumulate() -> None:
        for parameter, gradient in zip(parameters, gradients(), strict=True):
            converted = gradient.to(parameter.dtype)
            parameter.grad = converted if parameter.grad is None else parameter.grad.add_(converted)

    side_stream.run(accumulate, *read)
    return [None] * len(parameters)
