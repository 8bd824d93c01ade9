"""The learning rate at every step."""

from __future__ import annotations

import math


def learning_rate_at(step: int, *, peak: float, schedule: str, warmup_steps: int, steps: int) -> float:
    """Learning rate of optimizer step `step`, counted from 0, as transformers' and diffusers' schedules give it.

    During warm-up peak · step / warmup_steps; afterwards the peak ("constant") or a fall to zero, in a line or half
    a cosine wave (Loshchilov and Hutter 2017, equation 5), that would be reached one step after the last.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "linear":
        return peak * max(0.0, 1.0 - progress)
    if schedule == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return peak
