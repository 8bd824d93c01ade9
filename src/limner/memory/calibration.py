"""The constants of the memory prediction: everything that shapes do not tell, in one table.

Measured on one H100 on 2026-11-25 with `torch.cuda.max_memory_reserved`, which the prediction then met within 6% for
the trainings of SD 1.5 and within 9% for rendering (docs/memory.md; two trainings set `apart` and `side_stream`, a
third what validation takes); what is counted from shapes stands in `peaks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Calibration:
    """Bytes and factors that hold for every model."""

    context: int  # the driver's and the libraries' own memory, beside what torch reserves
    workspace: int  # cuBLAS, cuDNN and kernels' scratch, reserved through torch
    slack: float  # what the allocator reserves for each byte asked of it
    plain_slack: float  # the same where the VAE decodes in fp32 with its own blocks: its convolutions take scratch
    apart: float  # of gradients computed beside the main stream, the share that does not come where activations went
    side_stream: float  # bytes that those gradients keep, for a latent's place, row and byte of it


CALIBRATION = Calibration(
    context=700 * MIB, workspace=192 * MIB, slack=1.06, plain_slack=1.6, apart=0.3, side_stream=10.5 * KIB
)


def reserved(allocated: float) -> int:
    """What torch reserves for so many bytes that are asked of it."""
    return int(allocated * CALIBRATION.slack) + CALIBRATION.workspace


def usable(budget_gib: float) -> int:
    """What torch may reserve on a card of so many GiB."""
    return int(budget_gib * GIB) - CALIBRATION.context


def needed_gib(peak: int) -> int:
    """The smallest card, in whole GiB, that has room for a stage that reserves `peak` bytes."""
    return math.ceil((peak + CALIBRATION.context) / GIB)
