"""AdamW over flat weights, one row a variant: each row is clipped, judged and counted by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from limner.diffusion.randomness import philox_key
from limner.kernels.adamw_numbers import Hyperparameters
from limner.kernels.fused_adamw import FusedAdamW
from limner.kernels.rows import CHUNK, BlockGroups
from limner.optimizers.flat import FlatOptimizer
from limner.optimizers.protocol import ParameterGroup, TrainedWeights

PURPOSE = "stochastic rounding"


class FlatAdamW(FlatOptimizer):
    """AdamW (Loshchilov and Hutter 2019) with gradient clipping, in place, without reading anything back.

    Each of the `groups` has its `weight_decay` among its options. `seeds` are the variants' training seeds; `max_norm`
    0 leaves gradients as they are; `gradient_scale` multiplies them first (1 / micro-batches).
    """

    def __init__(
        self,
        trainable: TrainedWeights,
        groups: Sequence[ParameterGroup],
        seeds: Sequence[int],
        *,
        betas: tuple[float, float],
        epsilon: float,
        eight_bit: bool = False,
        max_norm: float = 0.0,
        gradient_scale: float = 1.0,
    ) -> None:
        super().__init__(trainable)
        self.eight_bit = eight_bit
        decays = tuple(group.options["weight_decay"] for group in groups)
        self.adamw = FusedAdamW(
            trainable.weights.weight,
            hyperparameters=Hyperparameters(betas, epsilon, decays, _block_groups(trainable, groups)),
            keys=[philox_key(seed, PURPOSE) for seed in seeds],
            remainder=trainable.weights.remainder,
            eight_bit=eight_bit,
            max_norm=max_norm,
            gradient_scale=gradient_scale,
            alive=trainable.alive_chunks(CHUNK) if trainable.gradient is not None else None,
        )

    def step(self, learning_rates: Tensor) -> Tensor:
        """One update at `learning_rates` (V, G); returns which variants (V,) took it: those with finite gradients."""
        self.adamw.step(self.gradients(), learning_rates)
        return self.adamw.applied

    def rehearse(self) -> None:
        """Run the update's kernels without changing anything."""
        self.adamw.rehearse(self.gradients())

    def numbers(self) -> Mapping[str, Tensor]:
        """Moments of full precision."""
        return {} if self.eight_bit else self._moments()

    def counters(self) -> Mapping[str, Tensor]:
        """The count of updates, and 8-bit moments as they are, for they belong to their blocks."""
        return {"updates": self.adamw.updates} | (self._moments() if self.eight_bit else {})

    def _moments(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in vars(self.adamw.moments).items() if tensor is not None}


def _block_groups(trainable: TrainedWeights, groups: Sequence[ParameterGroup]) -> BlockGroups | None:
    """Which group each block of a row belongs to; None where there is one group."""
    if len(groups) == 1:
        return None
    weights = trainable.weights
    segments = [[weights.segments[name] for name in group.tensors] for group in groups]
    spans = [[(each.offset, each.offset + each.padded) for each in of_group] for of_group in segments]
    return BlockGroups(spans, weights.weight.shape[1], weights.weight.device)
