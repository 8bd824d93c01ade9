"""AdamW (Loshchilov and Hutter 2019), moments in full precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from limner.optimizers.flat_adamw import FlatAdamW
from limner.optimizers.protocol import Optimizer, ParameterGroup, TrainedWeights
from limner.optimizers.settings import OptimizerSettings
from limner.settings.values import Positive, Share

NotNegativeNumber = Annotated[float, Field(ge=0)]


class AdamWSettings(OptimizerSettings):
    """AdamW (Loshchilov and Hutter 2019)."""

    bytes_per_number: ClassVar[float] = 2 * 4.0
    eight_bit: ClassVar[bool] = False

    name: Literal["adamw"] = "adamw"  # pyright: ignore[reportIncompatibleVariableOverride]
    """"adamw"."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the two moments."""
    epsilon: Positive = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NotNegativeNumber = 1e-2
    """Weight decay."""
    text_encoder_weight_decay: NotNegativeNumber | None = None
    """Weight decay of the text encoder; left out means that of the rest."""

    def group_options(self, group: str) -> Mapping[str, float]:
        """The group's weight decay."""
        decay = self.text_encoder_weight_decay if group == "text_encoder" else None
        return {"weight_decay": self.weight_decay if decay is None else decay}

    def build(
        self,
        trainable: TrainedWeights,
        groups: Sequence[ParameterGroup],
        seeds: Sequence[int],
        *,
        max_norm: float,
        gradient_scale: float,
    ) -> Optimizer:
        """AdamW as one kernel over all weights."""
        return FlatAdamW(
            trainable,
            groups,
            seeds,
            betas=self.betas,
            epsilon=self.epsilon,
            eight_bit=self.eight_bit,
            max_norm=max_norm,
            gradient_scale=gradient_scale,
        )
