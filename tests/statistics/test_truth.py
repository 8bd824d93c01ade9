"""Synthetic truth: studies whose answer is known. `python -m tests.statistics.twins` makes many more of them."""

from __future__ import annotations

import pytest

from tests.statistics.twins import (
    any_pair,
    any_pair_uncorrected,
    equal,
    how_often,
    ours,
    percentile_bootstrap,
    pictures_as_if_independent,
    trend,
)


@pytest.mark.parametrize(
    "kind", [{}, {"same_seeds": False}, {"training_seeds": 5}], ids=["paired", "unpaired", "five seeds"]
)
def test_twins_are_called_different_in_at_most_16_of_200_studies(kind):
    assert how_often(ours, equal(2), 200, **kind) <= 16


def test_a_trend_over_equal_ranks_is_seen_in_at_most_16_of_200_studies():
    assert how_often(trend, equal(4), 200) <= 16


def test_holm_keeps_the_error_of_six_pairs_together():
    assert how_often(any_pair, equal(4), 200) <= 16
    assert how_often(any_pair_uncorrected, equal(4), 200) >= 36


def test_what_is_far_better_is_found():
    assert how_often(ours, {"a": 0.8, "b": 0.5}, 100) >= 95
    assert how_often(trend, {f"r{place}": 0.5 + 0.1 * place for place in range(4)}, 100) >= 95


def test_a_percentile_bootstrap_over_three_training_seeds_calls_a_quarter_of_twins_different():
    """Why limner takes t intervals: whoever swaps them for a bootstrap errs five times as often as is said."""
    assert 40 <= how_often(percentile_bootstrap, equal(2), 200) <= 72


def test_pictures_of_one_training_seed_are_not_independent():
    assert how_often(pictures_as_if_independent, equal(2), 200) >= 40
