"""Streams drawn together are the streams drawn one by one, whatever stands beside them."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from limner.diffusion.randomness import normal, normal_of, random_words
from limner.diffusion.streams import Streams, orders

WORDS = st.integers(0, 2**32 - 1)
INDICES = st.lists(st.integers(0, 2**62), min_size=1, max_size=6)


@settings(deadline=None)
@given(seed=st.integers(0, 2**64), indices=INDICES, count=st.integers(1, 30))
def test_streams_together_are_the_streams_one_by_one(seed, indices, count):
    purposes = [("noise", "flip", "noise")[place % 3] for place in range(len(indices))]
    together = Streams([(seed, purpose) for purpose in purposes]).words(torch.tensor(indices), count)
    for purpose, index, row in zip(purposes, indices, together, strict=True):
        assert torch.equal(row, random_words(seed, purpose, index, count))


@settings(deadline=None)
@given(indices=INDICES, pairs=st.integers(1, 300))
def test_normals_are_bit_equal_however_many_are_drawn_at_once(indices, pairs):
    words = Streams([(5, "noise")] * len(indices)).words(torch.tensor(indices), 2 * pairs)
    for index, row in zip(indices, normal_of(words), strict=True):
        assert torch.equal(row, normal(5, "noise", index, (2 * pairs,)))


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=12), st.data())
def test_an_order_sorts_by_unsigned_keys_and_then_by_position(pairs, data):
    pairs += [data.draw(st.sampled_from(pairs))]  # a tie
    size = data.draw(st.integers(1, len(pairs)))
    order = orders(torch.tensor([pairs]).flatten(1), torch.tensor([size]))[0, :size].tolist()
    assert order == sorted(range(size), key=lambda place: (pairs[place], place))


def test_the_largest_key_still_stands_before_places_past_the_size():
    assert orders(torch.tensor([[2**32 - 1] * 6]), torch.tensor([2])).tolist() == [[0, 1, 2]]


def test_no_value_is_read_back():
    with FakeTensorMode():
        words = Streams([(0, "a"), (0, "b")]).words(torch.empty(2, dtype=torch.int64), 10)
        assert orders(words, torch.empty(2, dtype=torch.int64)).shape == (2, 5)
