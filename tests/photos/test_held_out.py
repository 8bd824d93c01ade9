"""Which photos no training sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.errors import PhotoError
from limner.photos import choose_held_out

HASHES = st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=60, unique=True)


@given(HASHES)
def test_one_in_five_from_twenty_photos_on(hashes):
    chosen = choose_held_out(hashes, [False] * len(hashes), "auto")
    assert len(chosen) == (len(hashes) // 5 if len(hashes) >= 20 else 0)
    assert chosen == sorted(set(chosen))


@given(HASHES, st.randoms(use_true_random=False), st.integers(0, 60))
def test_the_choice_follows_from_content_and_not_from_order(hashes, random, wanted):
    wanted = min(wanted, len(hashes) - 1)
    shuffled = hashes.copy()
    random.shuffle(shuffled)
    first = {hashes[place] for place in choose_held_out(hashes, [False] * len(hashes), wanted)}
    second = {shuffled[place] for place in choose_held_out(shuffled, [False] * len(hashes), wanted)}
    assert first == second
    assert len(first) == wanted


def test_what_is_trained_on_too_is_held_out_last():
    assert choose_held_out(["a", "b", "c", "d"], [True, True, False, False], 2) == [2, 3]
    assert choose_held_out(["a", "b", "c", "d"], [True, True, False, False], 3) == [0, 2, 3]


@pytest.mark.parametrize("wanted", [3, 4])
def test_something_must_be_left_to_train_on(wanted):
    with pytest.raises(PhotoError, match=rf"held_out is {wanted} and 3 photos"):
        choose_held_out(["a", "b", "c"], [False] * 3, wanted)
