"""The optimizer with a state: weights in rows, their moments, counts and keys, and a step that can be captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limner.errors import InputError
from limner.kernels.adamw import adamw_step, squared_norms
from limner.kernels.adamw_numbers import Gradients, Hyperparameters, Moments


class FusedAdamW:
    """AdamW over rows of weights (R, P), which it changes in place; see `adamw` for the equations.

    `keys`: one Philox key for each row, as `philox_key(seed, "stochastic rounding")` gives it. With `remainder` the
    weights are exact; `alive` as in `adamw_step`. `norms` and `applied`, tensors of the device (R,), are of the last
    step: the gradients' norms before clipping, and which rows were applied because theirs was finite.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        hyperparameters: Hyperparameters,
        keys: Sequence[tuple[int, int]],
        remainder: Tensor | None = None,
        eight_bit: bool = False,
        max_norm: float = 0.0,
        gradient_scale: float = 1.0,
        alive: Tensor | None = None,
    ):
        rows, device = weight.shape[0], weight.device
        self.weight, self.remainder, self.hyperparameters = weight, remainder, hyperparameters
        self.max_norm, self.gradient_scale, self.alive = max_norm, gradient_scale, alive
        self.moments = Moments.zeros(weight, eight_bit=eight_bit)
        self.keys = torch.tensor(list(keys), dtype=torch.int64, device=device).reshape(rows, 2)
        self.updates = torch.zeros(rows, dtype=torch.int64, device=device)
        self.applied = torch.zeros(rows, dtype=torch.bool, device=device)
        self.norms = torch.zeros(rows, dtype=torch.promote_types(weight.dtype, torch.float32), device=device)

    def step(self, gradients: Gradients, learning_rates: Tensor) -> None:
        """One step with `gradients` (rows of the weights' layout, or scattered) and `learning_rates` (R, G)."""
        squared = squared_norms(gradients, self.alive)
        self.norms.copy_(squared.sqrt() * self.gradient_scale)
        self._apply(gradients, learning_rates, squared)

    def rehearse(self, gradients: Gradients) -> None:
        """Run the kernels of a step and change nothing, as if no gradient were finite: before a capture, say."""
        squared = torch.full_like(squared_norms(gradients, self.alive), torch.inf)
        learning_rates = squared.new_zeros(len(squared), len(self.hyperparameters.weight_decays))
        self._apply(gradients, learning_rates, squared)

    def _apply(self, gradients: Gradients, learning_rates: Tensor, squared: Tensor) -> None:
        applied = adamw_step(
            self.weight,
            gradients,
            self.moments,
            learning_rates,
            self.updates,
            squared,
            hyperparameters=self.hyperparameters,
            remainder=self.remainder,
            keys=self.keys,
            max_norm=self.max_norm,
            gradient_scale=self.gradient_scale,
            alive=self.alive,
        )
        self.applied.copy_(applied)

    def state(self) -> dict[str, Tensor]:
        """The tensors that an exact resume needs beside the weights, as they are (not copied)."""
        named = {
            "first": self.moments.first,
            "second": self.moments.second,
            "first_scales": self.moments.first_scales,
            "second_scales": self.moments.second_scales,
            "remainder": self.remainder,
            "updates": self.updates,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take a stored `state` in place. Raises InputError when it is one of another optimizer."""
        own = self.state()
        described = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in own.items()}
        stored = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
        if described != stored:
            raise InputError(
                f"the stored optimizer state has {stored}, this training {described}; resume with the settings the "
                "training was begun with"
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])
