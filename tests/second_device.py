"""A second device that is not there: tensors sent to "xpu" stay in the processor's memory and say that they are on it.

So it can be seen, without a GPU, what lies where and how much of it at once.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE, CPU = torch.device("xpu"), torch.device("cpu")


class SecondDevice(TorchFunctionMode):
    """While the block runs, "xpu" works; `now` and `peak` are the bytes that lie on it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._there: dict[int, weakref.ref[Any]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        leaves = tree_leaves((args, kwargs))
        given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        asked = [torch.device(leaf).type for leaf in leaves if _is_device(leaf)]
        if name == "_parse_to":  # of `Module.to`, which then moves tensor after tensor
            return func(*args, **kwargs)
        if getattr(func, "__self__", None) is Tensor.device:
            return DEVICE if self.holds(given[0]) else CPU
        args, kwargs = tree_map(_here, args), tree_map(_here, kwargs)
        there = DEVICE.type in asked if asked else any(map(self.holds, given)) and name != "cpu"
        if name in ("to", "cpu") and there != self.holds(given[0]):
            func, kwargs = Tensor.to, kwargs | {"copy": True}
            args = args if name == "to" else (*args, CPU)
        return self._mark(func(*args, **kwargs), there)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies on the second device."""
        return tensor.untyped_storage()._cdata in self._there

    def _mark(self, result: Any, there: bool) -> Any:
        for leaf in tree_leaves(result):
            if there and isinstance(leaf, Tensor) and not self.holds(leaf):
                self._born(leaf.untyped_storage())
        return result

    def _born(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()

        def dies(_: Any) -> None:
            if self._there.pop(key, None) is not None:
                self.now -= size

        self._there[key] = weakref.ref(storage, dies)
        self.now += size
        self.peak = max(self.peak, self.now)


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value in (DEVICE.type, CPU.type))


def _here(value: Any) -> Any:
    return CPU if _is_device(value) else value
