"""What an optimizer's module says of itself: its table in a study, what it needs, and how it is built."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from limner.optimizers.protocol import Optimizer, ParameterGroup, TrainedWeights
from limner.settings.optimizer import OptimizerTable


class OptimizerSettings(OptimizerTable):
    """The table `optimizer = { name = "…", … }` of one optimizer."""

    can_be_stacked: ClassVar[bool] = True
    """Whether variants can be trained together without one changing another's result."""
    bytes_per_number: ClassVar[float]
    """Memory of its state for each trained number, beside weight and gradient."""

    def group_options(self, group: str) -> Mapping[str, float]:
        """What it sets for a parameter group ("unet", "text_encoder") beside the learning rate."""
        return {}

    @abstractmethod
    def build(
        self,
        trainable: TrainedWeights,
        groups: Sequence[ParameterGroup],
        seeds: Sequence[int],
        *,
        max_norm: float,
        gradient_scale: float,
    ) -> Optimizer:
        """The optimizer of `trainable`, whose learning rates have a column for each of `groups`.

        `seeds` are the variants' training seeds. It multiplies gradients by `gradient_scale` (1 / micro-batches), then
        clips each variant's to the norm `max_norm`, where that is not 0.
        """
