"""Dynamic loss scaling for fp16 (Micikevicius et al., "Mixed precision training", 2018, section 3.2), on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.optimizers import TrainedWeights

FIRST, LARGEST, GROWTH_STEPS = 65536.0, 2.0**24, 2000


class LossScale:
    """A scale for each variant: halved by a step whose gradients overflowed, doubled after 2,000 that did not."""

    def __init__(self, variants: int, device: torch.device) -> None:
        self.scale = torch.full((variants,), FIRST, device=device)
        self.good_steps = torch.zeros(variants, dtype=torch.int64, device=device)

    def divide(self, trainable: TrainedWeights) -> None:
        """Take the scale out of the gradients."""
        if trainable.gradient is not None:
            trainable.gradient.div_(self.scale[:, None])
        else:
            torch._foreach_div_(trainable.gradients(), self.scale[0])

    def adapt(self, applied: Tensor) -> None:
        """Learn from whether the variants' steps (V,) were applied."""
        self.good_steps.copy_(torch.where(applied, self.good_steps + 1, 0))
        grown = applied & (self.good_steps % GROWTH_STEPS == 0)
        factor = torch.where(applied, torch.where(grown, 2.0, 1.0), 0.5)
        self.scale.copy_((self.scale * factor).clamp(1.0, LARGEST))
