"""AdamW with 8-bit moments: `kernels.eight_bit` has the code."""

from __future__ import annotations

from typing import ClassVar, Literal

from limner.kernels.eight_bit import BLOCK
from limner.optimizers.adamw import AdamWSettings


class AdamW8bitSettings(AdamWSettings):
    """AdamW with 8-bit moments, a quarter of their memory. Its variants are trained alone: blocks of moments would
    depend on the ranks beside them."""

    can_be_stacked: ClassVar[bool] = False
    bytes_per_number: ClassVar[float] = 2 * 1.0 + 8 / BLOCK  # the codes, and the blocks' scales
    eight_bit: ClassVar[bool] = True

    name: Literal["adamw8bit"] = "adamw8bit"  # pyright: ignore[reportIncompatibleVariableOverride]
    """"adamw8bit"."""
