"""Draws many streams of `randomness` together: one computation for all purposes and examples of a micro-batch.

The words are those that `randomness.random_words` draws one stream at a time (the plain form, with which the tests
compare), but nothing here reads a value back from the device or depends on one: keys are put on the device once,
indices are tensors, shapes are fixed. So a draw can be captured in a CUDA graph and replayed for another step.

Shapes: R streams, each with its own index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from limner.diffusion.randomness import KEY_INCREMENTS, MASK, MULTIPLIERS, ROUNDS, philox_key
from limner.kernels.available import has_triton


class Streams:
    """R streams, each a seed and a purpose; the same one may occur several times, for several indices."""

    def __init__(self, streams: Sequence[tuple[int, str]], device: torch.device | str = "cpu"):
        keys = [philox_key(seed, purpose) for seed, purpose in streams]
        rounds = [
            [[(key[lane] + round_index * KEY_INCREMENTS[lane]) & MASK for key in keys] for lane in (0, 1)]
            for round_index in range(ROUNDS)
        ]
        self.keys = torch.tensor(rounds, dtype=torch.int64, device=device)[..., None]  # (10, 2, R, 1)
        self.multipliers = torch.tensor(MULTIPLIERS, dtype=torch.int64, device=device)[:, None, None]  # (2, 1, 1)

    def words(self, index: Tensor, count: int) -> Tensor:
        """The first `count` 32-bit words (R, count), in int64, of every stream at its `index` (R,) int64."""
        if has_triton(index):
            from limner.kernels.philox_triton import words_of_streams

            return words_of_streams(self.keys[0, :, :, 0].T.contiguous(), index, count)
        blocks = torch.arange(math.ceil(count / 4), dtype=torch.int64, device=index.device)[None]  # (1, blocks)
        low, high = (index & MASK)[:, None], ((index >> 32) & MASK)[:, None]  # (R, 1)
        even = torch.stack(torch.broadcast_tensors(blocks, low))  # (2, R, blocks), the counter's words 0 and 2
        odd = torch.stack(torch.broadcast_tensors(torch.zeros_like(blocks), high.expand_as(even[0])))  # words 1 and 3
        for key in self.keys.unbind():
            product = (even * self.multipliers).flip(0)  # int64 wraps, but its 64 bits are right
            even, odd = ((product >> 32) & MASK) ^ odd ^ key, product & MASK
        words = torch.stack([even[0], odd[0], even[1], odd[1]], -1)  # (R, blocks, 4)
        return words.flatten(1)[:, :count]


def orders(words: Tensor, sizes: Tensor) -> Tensor:
    """Permutations (R, N) of range(size), one for each size (R,), from words (R, 2N); followed by the indices from the
    size on.

    The order of 64-bit keys, each of two words, ties broken by position.
    """
    pairs = words.unflatten(1, (-1, 2))  # (R, N, 2)
    keys = ((pairs[..., 0] - 2**31) << 32) | pairs[..., 1]  # (R, N), ordered as int64 like the unsigned 64 bits
    position = torch.arange(keys.shape[1], device=keys.device)
    keys = torch.where(position < sizes[:, None], keys, torch.iinfo(torch.int64).max)
    return torch.sort(keys, dim=1, stable=True).indices
