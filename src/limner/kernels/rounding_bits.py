"""Random bits for stochastic rounding: 16 for each number of a row, from Philox4x32-10 with the row's key.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Counter (position // 8, 0, step): the words are
those that `limner.diffusion.randomness.random_words` draws for the step; each word gives 16-bit halves for two numbers,
the lower half first. The Triton kernel draws the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF
NUMBERS_OF_A_COUNTER = 8


def rounding_bits(keys: Tensor, steps: Tensor, start: int, count: int) -> Tensor:
    """(G, count) int32 in [0, 65536) for the numbers from `start`; `start` and `count` are multiples of 8.

    `keys` (G, 2) and `steps` (G,) are int64.
    """
    blocks = torch.arange(
        start // NUMBERS_OF_A_COUNTER, (start + count) // NUMBERS_OF_A_COUNTER, device=keys.device
    )  # (N,)
    words = _philox(blocks[None], keys[:, 0, None], keys[:, 1, None], steps[:, None])  # (G, N, 4)
    return torch.stack([words & 0xFFFF, words >> 16], -1).to(torch.int32).flatten(1)


def swapped_fraction(halves: Tensor) -> Tensor:
    """fp32 in [0, 1) from the halves with bytes swapped: for a second rounding, independent in its leading 8 bits."""
    return (((halves & 0xFF) << 8) | (halves >> 8)).to(torch.float32) * 2**-16


def _philox(blocks: Tensor, key0: Tensor, key1: Tensor, steps: Tensor) -> Tensor:
    c0, c1, c2, c3 = torch.broadcast_tensors(blocks, blocks * 0, steps & MASK, (steps >> 32) & MASK)
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # int64 wraps, but its 64 bits are right
        c0, c1 = ((product1 >> 32) & MASK) ^ c1 ^ key0, product1 & MASK
        c2, c3 = ((product0 >> 32) & MASK) ^ c3 ^ key1, product0 & MASK
        key0, key1 = (key0 + KEY_INCREMENTS[0]) & MASK, (key1 + KEY_INCREMENTS[1]) & MASK
    return torch.stack([c0, c1, c2, c3], -1)
