"""Peak bytes of a computation that never runs: tensors on torch's "meta" device have shapes and no content.

Every storage counts once, from the operation that makes it until nothing holds it any more, rounded as CUDA's
allocator rounds. So what autograd keeps for the backward pass, what gradient checkpointing spares and what an
operation needs beside its result for a moment are all counted as they are on the device.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from limner.memory.stand_ins import kernels_stood_in_for

ROUNDED_TO = 512  # bytes, the allocator's smallest block


def peak_bytes(computation: Callable[[], Any]) -> int:
    """The most that storages made by `computation` hold at any one time, beside what was there before."""
    with _Tracker() as tracker, kernels_stood_in_for(), _saved_by_python():
        computation()
    return tracker.peak


class _Tracker(TorchDispatchMode):
    """Follows storages from birth to death."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _key(leaf) not in before:
                self._born(leaf.untyped_storage())
        return result

    def _born(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._alive:
            return
        size = -(-storage.nbytes() // ROUNDED_TO) * ROUNDED_TO

        def dies(_: Any) -> None:
            if self._alive.pop(key, None) is not None:
                self.now -= size

        self._alive[key] = weakref.ref(storage, dies)
        self.now += size
        self.peak = max(self.peak, self.now)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextlib.contextmanager
def _saved_by_python() -> Iterator[None]:
    """Let autograd hold what it saves through Python, so that a storage's Python object lives as long as itself."""
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        yield
