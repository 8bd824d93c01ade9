"""Which bucket each step's examples are of, where photos lie in buckets of several shapes.

All micro-batches of a step are of one bucket, for a batch has one shape. Which one follows from the step's number
alone: not from the training seed and not from what else is trained, so that variants of several seeds can share every
step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from limner.diffusion.streams import Streams, orders

SEED, PURPOSE = 0, "bucket order"


@dataclass(frozen=True)
class BucketSchedule:
    """Of every step its bucket, and how many steps before it were of the same."""

    buckets: tuple[int, ...]
    earlier: tuple[int, ...]


def bucket_schedule(examples: Sequence[int], steps: int) -> BucketSchedule:
    """The buckets of `steps` steps, in proportion to how many `examples` each bucket has.

    They come in epochs: the fewest steps that have the proportion exactly, each epoch in an order of its own.
    """
    shared = math.gcd(*examples)
    epoch = [bucket for bucket, count in enumerate(examples) for _ in range(count // shared)]
    epochs = -(-steps // len(epoch))
    words = Streams([(SEED, PURPOSE)] * epochs).words(torch.arange(epochs), 2 * len(epoch))
    order = orders(words, torch.full((epochs,), len(epoch))).flatten()  # (epochs · len(epoch),)
    buckets = [epoch[index] for index in order[:steps].tolist()]
    taken, earlier = [0] * len(examples), []
    for bucket in buckets:
        earlier.append(taken[bucket])
        taken[bucket] += 1
    return BucketSchedule(tuple(buckets), tuple(earlier))
