"""Philox4x32-10 against the known answers of Random123, and what limner builds on it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.diffusion.randomness import (
    integers,
    integers_of,
    normal,
    philox4x32,
    philox_key,
    random_words,
    uniform,
    uniform_of,
)

FULL = 0xFFFFFFFF
KNOWN_ANSWERS = [  # Random123's kat_vectors, "philox4x32 10"
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    assert tuple(philox4x32(torch.tensor([counter]), key)[0].tolist()) == expected


@given(st.integers(0, 2**40), st.integers(1, 50), st.integers(1, 50))
def test_a_longer_draw_begins_with_the_shorter(index, first, more):
    short = random_words(7, "noise", index, first)
    assert torch.equal(random_words(7, "noise", index, first + more)[:first], short)


def test_streams_differ_by_seed_purpose_and_index():
    draws = [random_words(*arguments, 8).tolist() for arguments in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]]
    assert len({tuple(draw) for draw in draws}) == 4


def test_the_index_may_be_a_tensor():
    assert torch.equal(normal(3, "noise", torch.tensor(11), (2, 3)), normal(3, "noise", 11, (2, 3)))


def test_distributions():
    numbers = normal(0, "noise", 0, (100_000,))
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.02
    assert abs((numbers**4).mean() - 3) < 0.15
    shares = uniform(0, "share", 0, (100_000,))
    assert shares.min() > 0
    assert shares.max() < 1
    assert abs(shares.mean() - 0.5) < 0.01
    counts = torch.bincount(integers(0, "timesteps", 0, (100_000,), 10), minlength=10)
    assert counts.min() > 9_500
    assert counts.max() < 10_500


def test_seed_and_purpose_cannot_run_into_one_another():
    """Seed 1 for "2 noise" and seed 12 for " noise" would else share a stream."""
    assert philox_key(1, "2 noise") != philox_key(12, " noise")


def test_no_word_gives_0_whose_logarithm_is_taken():
    assert uniform_of(torch.tensor([0, FULL])).tolist() == [2**-25, 1.0]


def test_integers_come_from_the_upper_bits():
    """A word's place among all words is the integer's among all integers."""
    assert integers_of(torch.tensor([0, 1 << 31, FULL]), 1000).tolist() == [0, 500, 999]
