"""Which bucket each step takes: in proportion, in an order of its own for each epoch, the same for whoever asks."""

from __future__ import annotations

from collections import Counter
from math import gcd

from hypothesis import given, settings
from hypothesis import strategies as st

from limner.training.bucket_schedule import bucket_schedule

EXAMPLES = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(examples=EXAMPLES, epochs=st.integers(1, 5), more=st.integers(0, 7))
def test_every_epoch_has_the_proportion_of_the_examples(examples, epochs, more):
    length = sum(examples) // gcd(*examples)
    turns = bucket_schedule(examples, epochs * length + more)
    assert len(turns.buckets) == len(turns.earlier) == epochs * length + more
    share = {bucket: count // gcd(*examples) for bucket, count in enumerate(examples)}
    for epoch in range(epochs):
        assert Counter(turns.buckets[epoch * length : (epoch + 1) * length]) == share
    seen = Counter()
    for bucket, earlier in zip(turns.buckets, turns.earlier, strict=True):
        assert earlier == seen[bucket]
        seen[bucket] += 1


@settings(max_examples=30, deadline=None)
@given(examples=EXAMPLES, steps=st.integers(1, 40), more=st.integers(1, 40))
def test_a_longer_training_begins_as_the_shorter(examples, steps, more):
    assert bucket_schedule(examples, steps + more).buckets[:steps] == bucket_schedule(examples, steps).buckets


def test_epochs_have_orders_of_their_own_and_never_change():
    turns = bucket_schedule([6, 3, 3], 80)  # epochs of four steps
    orders = {turns.buckets[start : start + 4] for start in range(0, 80, 4)}
    assert len(orders) > 6  # of twelve
    assert bucket_schedule([4, 2], 12).buckets == (0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0)
