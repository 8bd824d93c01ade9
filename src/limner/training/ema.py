"""An exponential moving average of the trained weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from limner.training.interruption import uninterrupted


class ExponentialMovingAverage:
    """average ← average + (1 - d)(weight - average), with d = min(decay, (1 + n)/(10 + n)) at update n.

    The ramp, which diffusers' EMAModel has too, lets short trainings forget where they started.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters = parameters
        self.decay = decay
        self.average = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the weights after update `number`, counted from 1."""
        decay = min(self.decay, (1 + number) / (10 + number))
        weights = [parameter.detach() for parameter in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1.0 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Exchange weights and average for the time of the block."""
        exchanged = False
        try:
            with uninterrupted():
                self._exchange()
                exchanged = True
            yield
        finally:
            if exchanged:
                with uninterrupted():
                    self._exchange()

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Go on from a stored average."""
        for name, tensor in average.items():
            self.average[name].copy_(tensor)

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.average[name] = self.average[name], parameter.data
