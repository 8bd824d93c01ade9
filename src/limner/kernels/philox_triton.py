"""Philox4x32-10 of many streams in one launch: the words that `diffusion.streams` draws with a hundred small ones."""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


def words_of_streams(keys: Tensor, index: Tensor, count: int) -> Tensor:
    """The first `count` 32-bit words (R, count), in int64, of streams with `keys` (R, 2) at `index` (R,) int64."""
    blocks = math.ceil(count / 4)
    words = torch.empty(len(keys), blocks, 4, dtype=torch.int64, device=keys.device)
    _words[(triton.cdiv(blocks, BLOCK), len(keys))](keys, index, words, blocks, BLOCK=BLOCK)
    return words.flatten(1)[:, :count]


@triton.jit
def _words(keys, index, words, blocks, BLOCK: tl.constexpr):
    row = tl.program_id(1)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    position = tl.load(index + row)
    low, high = tl.load(keys + row * 2).to(tl.uint32), tl.load(keys + row * 2 + 1).to(tl.uint32)
    counter = number.to(tl.uint32)
    zero = counter * 0
    c0, c1, c2, c3 = tl.random.philox_impl(
        counter, zero, zero + position.to(tl.uint32), zero + (position >> 32).to(tl.uint32), low, high, 10
    )
    address = words + (row.to(tl.int64) * blocks + number) * 4
    valid = number < blocks
    tl.store(address, c0.to(tl.int64), mask=valid)
    tl.store(address + 1, c1.to(tl.int64), mask=valid)
    tl.store(address + 2, c2.to(tl.int64), mask=valid)
    tl.store(address + 3, c3.to(tl.int64), mask=valid)
