"""The optimizers: AdamW, and AdamW with 8-bit moments."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch import nn

from limner.errors import InputError

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


def require_optimizer(name: str) -> None:
    """Raise InputError when the optimizer's package is not installed."""
    if name == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise InputError(
            'optimizer = "adamw8bit" needs bitsandbytes; install it with: pip install "limner[eight-bit]" '
            '(or set optimizer = "adamw")'
        )


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) over fp32 parameters; the learning rate is set anew before every step."""
    require_optimizer(name)
    owned = list(parameters)
    if name == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(owned, lr=0.0, betas=betas, eps=epsilon, weight_decay=weight_decay)
    fused = owned[0].device.type in FUSED_DEVICES
    return torch.optim.AdamW(owned, lr=0.0, betas=betas, eps=epsilon, weight_decay=weight_decay, fused=fused)
