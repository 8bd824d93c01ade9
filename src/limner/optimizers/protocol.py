"""What a training asks of its optimizer, and what an optimizer is given to update.

A step's work is the device's alone and may be captured in a CUDA graph: `step` reads nothing back and branches on
nothing that the device computed. V variants are trained together, each in its own row of P numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from limner.kernels.flat_weights import FlatWeights


class TrainedWeights(Protocol):
    """The weights in training, in rows, and where their gradients are."""

    weights: FlatWeights

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What autograd sees of the weights, by name."""
        ...

    @property
    def gradient(self) -> Tensor | None:
        """Gradients (V, P) in the weights' layout; None where autograd keeps each tensor's where it likes."""
        ...

    def gradients(self) -> list[Tensor]:
        """Gradients in the order of names, (V, …) each."""
        ...

    def parts_of(self, rows: Tensor, variant: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Views by name of what is one variant's in rows (V, P) of the weights' layout, without padding."""
        ...

    def alive_chunks(self, size: int) -> Tensor:
        """(V, P/size) uint8: 1 for the parts of a row that are not all padding."""
        ...


@dataclass(frozen=True)
class ParameterGroup:
    """Trained tensors that are treated alike: one learning rate a variant and step, and what the optimizer sets."""

    names: tuple[str, ...]
    """Groups of the trainable that it stands for: ("unet", "text_encoder") where they are treated alike."""
    tensors: tuple[str, ...]
    options: Mapping[str, float] = field(default_factory=dict)
    """What the optimizer's settings say of this group (`OptimizerSettings.group_options`): {"weight_decay": 0.01}."""


class Optimizer(Protocol):
    """Updates the weights of all variants in place, each row by itself, and keeps what an exact resume needs."""

    trainable: TrainedWeights

    def step(self, learning_rates: Tensor) -> Tensor:
        """One update at `learning_rates` (V, G), a column for each parameter group.

        Returns which variants (V,) bool took it: one whose gradients are not finite keeps weights and state.
        """
        ...

    def rehearse(self) -> None:
        """Run the update's kernels and change nothing, so that they are compiled before a capture."""
        ...

    def point_at_gradients(self) -> None:
        """Take note of where autograd has put the gradients of whole weights. While a graph is captured nothing is
        noted: they stay where they are then, and are pointed at afterwards."""
        ...

    def gradient_addresses(self) -> Tensor | None:
        """Where gradients of whole weights were pointed at last; None where they never move."""
        ...

    def restore_gradient_addresses(self, addresses: Tensor | None) -> None:
        """Read gradients where `gradient_addresses` said, from the next work of the device on."""
        ...

    def forget_gradients(self) -> None:
        """Let go of gradients that were pointed at, so that their memory is free."""
        ...

    def state(self, variant: int = 0) -> dict[str, Tensor]:
        """What one variant's exact resume needs beside its weights, as copies on the CPU."""
        ...

    def load(self, state: Mapping[str, Tensor], variant: int = 0) -> None:
        """Go on from a stored state of one variant."""
        ...
