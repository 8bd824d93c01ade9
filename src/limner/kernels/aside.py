"""Work beside the main stream: gradients of weights, which nothing waits for before the optimizer.

At small batches the products of a backward pass fill only part of a GPU. Each layer's gradient of its weight depends
on nothing that comes after it, so it may run beside the gradients of the layers before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import TracebackType

import torch
from torch import Tensor

BUNDLE = 4  # pieces of work that are started together: each start costs both streams a wait
AHEAD = 1  # bundles that may be under way: what they read stays in memory until they are done

_current: ContextVar[Aside | None] = ContextVar("aside", default=None)


class Aside:
    """A second stream of a CUDA device. Layers called in its block hand it their weights' gradients in backward.

    They land in the parameters' `grad`. At the end of the block, which holds the whole backward pass, the current
    stream waits for all of them; only then may they be read.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._stream = torch.cuda.Stream(device)
        self._bundle: list[tuple[Callable[[], object], tuple[Tensor, ...]]] = []
        self._under_way: deque[tuple[torch.Event, list]] = deque()

    def __enter__(self) -> Aside:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        if error is None:
            self._start()
        self._bundle.clear()
        self._wait_down_to(0)

    def run(self, work: Callable[[], object], *read: Tensor) -> None:
        """Run `work` after what the current stream was given so far; `read` are the tensors that it reads."""
        self._bundle.append((work, read))
        if len(self._bundle) >= BUNDLE:
            self._start()
            self._wait_down_to(AHEAD)

    def _start(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for work, _ in self._bundle:
                work()
            self._under_way.append((self._stream.record_event(), self._bundle))
        self._bundle = []

    def _wait_down_to(self, count: int) -> None:
        """Until `count` bundles are under way: the memory that the others read is free for the current stream then."""
        current = torch.cuda.current_stream(self._stream.device)
        while len(self._under_way) > count:
            done, _ = self._under_way.popleft()
            current.wait_event(done)


def current_aside() -> Aside | None:
    """The aside in whose block the caller is."""
    return _current.get()


def learnt(
    aside: Aside | None, parameters: Sequence[Tensor], gradients: Callable[[], Sequence[Tensor]], *read: Tensor
) -> Sequence[Tensor | None]:
    """What a backward pass returns for `parameters`: `gradients()`, or None for each where `aside` takes them in."""
    if aside is None or not all(parameter.is_leaf for parameter in parameters):
        return gradients()

    def take_in() -> None:
        for parameter, gradient in zip(parameters, gradients(), strict=True):
            own = gradient.to(parameter.dtype)
            parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)

    aside.run(take_in, *read)
    return [None] * len(parameters)
