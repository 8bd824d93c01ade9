"""Everything random comes from (seed, purpose, index), through Philox4x32-10.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The key is taken from the SHA-256 of
(seed, purpose), the counter is (block, index), so any draw can be repeated alone, on any device, in any
order; `streams` draws many at once, also inside a captured graph.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as in the paper
ROUNDS = 10
MASK = 0xFFFFFFFF


def philox_key(seed: int, purpose: str) -> tuple[int, int]:
    """Two 32-bit words from the SHA-256 of (seed, purpose)."""
    digest = hashlib.sha256(f"{seed}\0{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def philox4x32(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 of `counter` (N, 4), words held in int64; returns (N, 4) words in [0, 2**32)."""
    c0, c1, c2, c3 = counter.unbind(1)
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & MASK, (k1 + KEY_INCREMENTS[1]) & MASK
    return torch.stack([c0, c1, c2, c3], 1)


def random_words(
    seed: int, purpose: str, index: int | Tensor, count: int, device: torch.device | str = "cpu"
) -> Tensor:
    """`count` 32-bit words (in int64) of the stream (seed, purpose, index); bit-equal on every device.

    `index` may be a scalar int64 tensor on `device`, so that a captured graph reads the step from it.
    """
    blocks = torch.arange(math.ceil(count / 4), dtype=torch.int64, device=device)
    if not isinstance(index, Tensor):
        index = torch.tensor(index, dtype=torch.int64, device=device)
    low = (index & MASK).expand_as(blocks)
    high = ((index >> 32) & MASK).expand_as(blocks)
    counter = torch.stack([blocks, torch.zeros_like(blocks), low, high], 1)  # (blocks, 4)
    return philox4x32(counter, philox_key(seed, purpose)).reshape(-1)[:count]


def uniform(
    seed: int, purpose: str, index: int | Tensor, shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> Tensor:
    """Uniform fp32 numbers in (0, 1]."""
    return uniform_of(random_words(seed, purpose, index, math.prod(shape), device)).reshape(shape)


def normal(
    seed: int, purpose: str, index: int | Tensor, shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal fp32 numbers."""
    count = math.prod(shape)
    return normal_of(random_words(seed, purpose, index, count + count % 2, device))[:count].reshape(shape)


def integers(
    seed: int,
    purpose: str,
    index: int | Tensor,
    shape: tuple[int, ...],
    below: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Integers in [0, below), below <= 2**31."""
    return integers_of(random_words(seed, purpose, index, math.prod(shape), device), below).reshape(shape)


def uniform_of(words: Tensor) -> Tensor:
    """Uniform fp32 numbers in (0, 1], one of each word: its upper 24 bits, plus a half; the largest rounds to 1."""
    return ((words >> 8).to(torch.float32) + 0.5) * 2**-24


def normal_of(words: Tensor) -> Tensor:
    """Standard normal fp32 numbers of words (..., 2n): Box and Muller, "A note on … random normal deviates", 1958."""
    pairs = uniform_of(words).unflatten(-1, (-1, 2))  # (..., n, 2)
    radius = torch.sqrt(-2.0 * torch.log(pairs[..., 0]))
    angle = 2.0 * math.pi * pairs[..., 1]
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1).flatten(-2)


def integers_of(words: Tensor, below: int) -> Tensor:
    """Integers in [0, below), one for each word: the high part of word times `below` (bias < below / 2**32)."""
    return (words * below) >> 32


def _multiply(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of word * multiplier; int64 wraps, but its 64 bits are right."""
    product = word * multiplier
    return (product >> 32) & MASK, product & MASK
