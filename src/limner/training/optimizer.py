"""AdamW over flat weights, one row a variant: each row is clipped, judged and counted by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limner.diffusion.randomness import philox_key
from limner.kernels.adamw_numbers import Gradients, Hyperparameters
from limner.kernels.fused_adamw import FusedAdamW
from limner.kernels.rows import CHUNK, ScatteredGradients, row_layout
from limner.training.trainable import Trainable

PURPOSE = "stochastic rounding"


class FlatAdamW:
    """AdamW (Loshchilov and Hutter 2019) with gradient clipping, in place, without reading anything back.

    `seeds` are the variants' training seeds; `max_norm` 0 leaves gradients as they are; `gradient_scale` multiplies
    them first (1 / micro-batches).
    """

    def __init__(
        self,
        trainable: Trainable,
        seeds: Sequence[int],
        *,
        hyperparameters: Hyperparameters,
        eight_bit: bool = False,
        max_norm: float = 0.0,
        gradient_scale: float = 1.0,
    ) -> None:
        self.trainable = trainable
        self.eight_bit = eight_bit
        self.adamw = FusedAdamW(
            trainable.weights.weight,
            hyperparameters=hyperparameters,
            keys=[philox_key(seed, PURPOSE) for seed in seeds],
            remainder=trainable.weights.remainder,
            eight_bit=eight_bit,
            max_norm=max_norm,
            gradient_scale=gradient_scale,
            alive=trainable.alive_chunks(CHUNK) if trainable.gradient is not None else None,
        )
        self._scattered: ScatteredGradients | None = None

    def step(self, learning_rates: Tensor) -> Tensor:
        """One update at `learning_rates` (V, G); returns which variants (V,) took it: those with finite gradients."""
        self.adamw.step(self._gradients(), learning_rates)
        return self.adamw.applied

    def rehearse(self) -> None:
        """Run the update's kernels without changing anything."""
        self.adamw.rehearse(self._gradients())

    def point_at_gradients(self) -> None:
        """Take note of where autograd has put the gradients of whole weights.

        While a graph is captured nothing is noted: they stay where they are then, and are pointed at afterwards.
        """
        capturing = self.adamw.updates.is_cuda and torch.cuda.is_current_stream_capturing()
        if self.trainable.gradient is None and not capturing:
            self._scattered_at().point_at(self.trainable.gradients())

    def gradients_at(self) -> Tensor | None:
        """Where gradients of whole weights were pointed at last, to go back to; None of those that never move."""
        return None if self.trainable.gradient is not None else self._scattered_at().addresses.clone()

    def go_back_to(self, addresses: Tensor | None) -> None:
        """Read gradients where `gradients_at` said, from the next work of the device on."""
        if addresses is not None:
            self._scattered_at().addresses.copy_(addresses)

    def forget_gradients(self) -> None:
        """Let go of gradients that were pointed at, so that their memory is free."""
        if self._scattered is not None:
            self._scattered.tensors = []

    def state(self, variant: int = 0) -> dict[str, Tensor]:
        """One variant's moments and its count of updates, as copies on the CPU.

        Moments of full precision go by the weights' names, without padding, so that it does not matter which ranks are
        trained beside this one; 8-bit ones as they are, for they belong to their blocks.
        """
        kept = {"updates": self.adamw.updates[variant : variant + 1]}
        for which, rows in self._moments():
            if self.eight_bit:
                kept[which] = rows[variant : variant + 1]
            else:
                kept |= {f"{which} {name}": tensor for name, tensor in self.trainable.own_parts(rows, variant)}
        return {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}

    def load(self, state: Mapping[str, Tensor], variant: int = 0) -> None:
        """Go on from a stored state."""
        self.adamw.updates[variant].copy_(state["updates"][0])
        for which, rows in self._moments():
            if self.eight_bit:
                rows[variant].copy_(state[which][0])
                continue
            for name, place in self.trainable.own_parts(rows, variant):
                place.copy_(state[f"{which} {name}"])

    def _moments(self) -> list[tuple[str, Tensor]]:
        return [(name, tensor) for name, tensor in vars(self.adamw.moments).items() if tensor is not None]

    def _gradients(self) -> Gradients:
        return self._scattered_at() if self.trainable.gradient is None else self.trainable.gradient

    def _scattered_at(self) -> ScatteredGradients:
        if self._scattered is None:
            weights = self.trainable.weights
            layout = row_layout([segment.count for segment in weights.segments.values()])
            dtype = next(iter(self.trainable.parameters.values())).dtype
            self._scattered = ScatteredGradients(layout, dtype, weights.weight.device)
        return self._scattered
