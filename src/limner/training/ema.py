"""An exponential moving average of the trained weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from limner.kernels.flat_weights import FlatWeights
from limner.kernels.split_weights import join, split
from limner.training.interruption import uninterrupted

PUT_AT_ONCE = 1 << 24  # numbers of a row, so that little is needed beside them


class ExponentialMovingAverage:
    """average ← average + (1 - d)(weight - average), with d = min(decay, (1 + n)/(10 + n)) at update n.

    The ramp, which diffusers' EMAModel has too, lets short trainings forget where they started.
    """

    def __init__(self, weights: FlatWeights, decay: float) -> None:
        self.weights, self.decay = weights, decay
        self.average = self._masters()  # (V, P)

    @torch.no_grad()
    def update(self, number: Tensor) -> None:
        """Take in the weights after update `number` (V,), counted from 1; nothing is read back."""
        ramp = (1.0 + number) / (10.0 + number)
        share = (1.0 - ramp.clamp(max=self.decay))[:, None].to(self.average.dtype)  # (V, 1)
        self.average.lerp_(self._masters(), share)

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Let the modules compute with the average for the time of the block; storage stays where it is.

        What it stands in for waits on the CPU: beside a training a GPU may have no room for it.
        """
        tensors = (self.weights.weight, self.weights.remainder)
        kept = [(tensor, tensor.to("cpu", copy=True)) for tensor in tensors if tensor is not None]
        try:
            with uninterrupted():
                self._put_average()
            yield
        finally:
            with uninterrupted():
                for tensor, saved in kept:
                    tensor.copy_(saved)

    def _masters(self) -> Tensor:
        weight, remainder = self.weights.weight, self.weights.remainder
        if remainder is not None:
            return join(weight, remainder)
        return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)

    def _put_average(self) -> None:
        weight, remainder = self.weights.weight, self.weights.remainder
        if remainder is None:
            weight.copy_(self.average)
            return
        parts = (rows.split(PUT_AT_ONCE, 1) for rows in (weight, remainder, self.average))
        for high, low, average in zip(*parts, strict=True):
            for part, value in zip((high, low), split(average), strict=True):
                part.copy_(value)
