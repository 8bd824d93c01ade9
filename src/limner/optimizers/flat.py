"""What optimizers over rows of weights share: where the gradients are, and states by the weights' names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from limner.kernels.rows import ScatteredGradients, row_layout
from limner.optimizers.protocol import TrainedWeights


class FlatOptimizer(ABC):
    """An `Optimizer` but for `step`, `rehearse` and the names of its tensors."""

    def __init__(self, trainable: TrainedWeights) -> None:
        self.trainable = trainable
        self._scattered: ScatteredGradients | None = None

    @abstractmethod
    def step(self, learning_rates: Tensor) -> Tensor:
        """See `Optimizer.step`."""

    @abstractmethod
    def rehearse(self) -> None:
        """See `Optimizer.rehearse`."""

    @abstractmethod
    def numbers(self) -> Mapping[str, Tensor]:
        """State that every trained number has, by its name: tensors (V, P) in the weights' layout."""

    @abstractmethod
    def counters(self) -> Mapping[str, Tensor]:
        """State of another shape, by its name: tensors (V, …)."""

    def gradient_rows(self) -> Tensor:
        """The gradients (V, P) in the weights' layout; those of whole weights are copied there."""
        scattered = self.gradients()
        return scattered if isinstance(scattered, Tensor) else scattered.row()

    def gradients(self) -> Tensor | ScatteredGradients:
        """The gradients where they are: in rows (V, P), or where autograd put them."""
        return self._scattered_gradients() if self.trainable.gradient is None else self.trainable.gradient

    def point_at_gradients(self) -> None:
        """See `Optimizer.point_at_gradients`."""
        on_gpu = self.trainable.weights.weight.is_cuda
        capturing = on_gpu and torch.cuda.is_current_stream_capturing()
        if self.trainable.gradient is None and not capturing:
            self._scattered_gradients().point_at(self.trainable.gradients())

    def gradient_addresses(self) -> Tensor | None:
        """See `Optimizer.gradient_addresses`."""
        return None if self.trainable.gradient is not None else self._scattered_gradients().addresses.clone()

    def restore_gradient_addresses(self, addresses: Tensor | None) -> None:
        """See `Optimizer.restore_gradient_addresses`."""
        if addresses is not None:
            self._scattered_gradients().addresses.copy_(addresses)

    def forget_gradients(self) -> None:
        """See `Optimizer.forget_gradients`."""
        if self._scattered is not None:
            self._scattered.tensors = []

    def state(self, variant: int = 0) -> dict[str, Tensor]:
        """See `Optimizer.state`. Numbers go by the weights' names, without padding, so that it does not matter which
        ranks are trained beside this one."""
        kept = {name: rows[variant : variant + 1] for name, rows in self.counters().items()}
        for which, rows in self.numbers().items():
            kept |= {f"{which} {name}": tensor for name, tensor in self.trainable.parts_of(rows, variant)}
        return {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}

    def load(self, state: Mapping[str, Tensor], variant: int = 0) -> None:
        """See `Optimizer.load`."""
        for name, rows in self.counters().items():
            rows[variant].copy_(state[name][0])
        for which, rows in self.numbers().items():
            for name, part in self.trainable.parts_of(rows, variant):
                part.copy_(state[f"{which} {name}"])

    def _scattered_gradients(self) -> ScatteredGradients:
        if self._scattered is None:
            weights = self.trainable.weights
            layout = row_layout([segment.count for segment in weights.segments.values()])
            dtype = next(iter(self.trainable.parameters.values())).dtype
            self._scattered = ScatteredGradients(layout, dtype, weights.weight.device)
        return self._scattered
