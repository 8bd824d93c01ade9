"""Differences, their intervals and corrections, taken by themselves."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.statistics import (
    Described,
    Estimated,
    best_by_others,
    compare,
    compare_with_base,
    correct,
    critical_t,
    detectable,
    holm,
    rank_trend,
    two_sided_p,
)
from tests.statistics.twins import CELLS, draw_study, equal

probabilities = st.lists(st.floats(1e-9, 1), min_size=1, max_size=12)


def level(value: float, cells=CELLS) -> dict:
    return {cell: value + place / 100 for place, cell in enumerate(cells)}


def test_the_figures_are_those_of_a_paired_t_test_by_hand():
    found = compare({0: level(0.6), 1: level(0.7), 2: level(0.8)}, {0: level(0.5), 1: level(0.5), 2: level(0.5)}, 0.4)
    assert isinstance(found, Estimated)
    error = statistics.stdev([0.1, 0.2, 0.3]) / 3**0.5
    assert found.difference == pytest.approx(0.2)
    assert found.span_share == pytest.approx(0.5)
    assert (found.training_seeds, found.pictures, found.design) == (3, 3 * len(CELLS), "paired")
    assert found.interval == pytest.approx((0.2 - 4.30265 * error, 0.2 + 4.30265 * error), abs=1e-5)
    assert found.p == pytest.approx(1 - (0.2 / error) / math.sqrt(2 + (0.2 / error) ** 2))  # t with 2 degrees, closed


def test_welch_is_taken_where_the_training_seeds_differ():
    found = compare({0: level(0.6), 1: level(0.7), 2: level(0.8)}, {3: level(0.5), 4: level(0.5), 5: level(0.53)})
    assert isinstance(found, Estimated)
    assert found.design == "unpaired"
    first, second = statistics.variance([0.6, 0.7, 0.8]) / 3, statistics.variance([0.5, 0.5, 0.53]) / 3
    assert found.standard_error == pytest.approx(math.sqrt(first + second))
    assert found.degrees_of_freedom == pytest.approx((first + second) ** 2 / (first**2 / 2 + second**2 / 2))


def test_three_shared_training_seeds_are_paired_and_others_set_aside():
    ours = {seed: level(0.6 + seed / 10) for seed in range(4)}
    theirs = {seed: level(0.5) for seed in range(1, 5)}
    found = compare(ours, theirs)
    assert isinstance(found, Estimated)
    assert (found.design, found.training_seeds) == ("paired", 3)
    assert found.difference == pytest.approx(0.3)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_training_seeds_have_no_interval_and_no_p(seeds):
    ours = {seed: level(0.6 + seed / 10) for seed in range(seeds)}
    others = [compare(ours, {seed: level(0.5) for seed in range(seeds)}), compare_with_base(ours, level(0.5))]
    others.append(compare(ours, {seed + 10: level(0.5) for seed in range(5)}))
    for found in others:
        assert isinstance(found, Described)
        assert found.reason == "few seeds"
        assert not hasattr(found, "interval")
        assert not hasattr(found, "p")


def test_training_seeds_that_are_copies_of_each_other_are_not_evidence():
    found = compare({seed: level(0.6) for seed in range(3)}, {seed: level(0.5) for seed in range(3)})
    assert isinstance(found, Described)
    assert found.reason == "no spread"
    unpaired = compare({seed: level(0.6) for seed in range(3)}, {seed: level(0.5) for seed in range(3, 6)})
    assert isinstance(unpaired, Described)


def test_only_pictures_that_both_have_are_compared():
    ours = {seed: level(0.6 + seed / 100) for seed in range(3)}
    theirs = {seed: {cell: 0.5 for cell in CELLS[:3]} for seed in range(3)}
    found = compare(ours, theirs)
    assert found
    assert found.pictures == 9
    assert compare(ours, {seed: {("another", 1, 0): 0.5} for seed in range(3)}) is None
    assert compare_with_base(ours, {}) is None


@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.booleans())
def test_turning_a_comparison_round_turns_its_sign_and_a_shift_of_both_changes_nothing(seed, seeds, same):
    study = draw_study(np.random.default_rng(seed), equal(2), seeds, same_seeds=same)
    first, second = study.values()
    found, turned = compare(first, second), compare(second, first)
    shifted = compare(
        *({s: {c: v + 1 for c, v in each.items()} for s, each in side.items()} for side in study.values())
    )
    assert isinstance(found, Estimated)
    assert isinstance(turned, Estimated)
    assert isinstance(shifted, Estimated)
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p == pytest.approx(found.p)
    assert shifted.p == pytest.approx(found.p)


@given(probabilities)
def test_holm_is_between_no_correction_and_bonferroni_and_keeps_the_order(values):
    found = holm(values)
    for p, decision in zip(values, found, strict=True):
        assert p <= decision.adjusted_p <= min(1.0, p * len(values)) * (1 + 1e-12)
        assert (decision.adjusted_p <= 0.05) == (p <= decision.level) or decision.adjusted_p == pytest.approx(0.05)
        assert 0.05 / len(values) <= decision.level <= 0.05
    ordered = [decision.adjusted_p for _, decision in sorted(zip(values, found, strict=True), key=lambda pair: pair[0])]
    assert ordered == sorted(ordered)


def test_holm_by_hand():
    assert [d.adjusted_p for d in holm([0.01, 0.04, 0.03, 0.005])] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from([0.3, 0.5, 0.55, 0.9]), min_size=2, max_size=5))
def test_an_interval_excludes_zero_just_where_its_difference_is_shown(seed, levels):
    study = draw_study(np.random.default_rng(seed), {f"v{i}": value for i, value in enumerate(levels)})
    family = correct([compare(a, b) for a, b in itertools.combinations(study.values(), 2)])
    for found in family:
        assert isinstance(found, Estimated)
        low, high = found.interval
        assert (low <= 0 <= high) == (not found.is_shown)
        assert found.family == len(family)


@pytest.mark.parametrize(("freedom", "level_"), [(2, 0.05), (2, 0.05 / 6), (4, 0.05), (2.7, 0.01)])
def test_the_detectable_difference_is_found_with_80_percent_power(freedom, level_):
    rng = np.random.default_rng(1)
    size = 200_000
    t = (rng.normal(size=size) + detectable(1.0, freedom, level_)) / np.sqrt(rng.chisquare(freedom, size) / freedom)
    assert np.mean(abs(t) > critical_t(level_, freedom)) == pytest.approx(0.8, abs=0.005)
    assert two_sided_p(critical_t(level_, freedom), freedom) == pytest.approx(level_)


def test_a_trend_is_the_mean_slope_over_the_doublings():
    by_rank = {rank: {s: level(0.5 + (0.1 + s / 100) * math.log2(rank)) for s in range(3)} for rank in (1, 4, 16)}
    found = rank_trend(by_rank)
    assert isinstance(found, Estimated)
    assert found.difference == pytest.approx(0.11)
    assert found.degrees_of_freedom == 2
    assert rank_trend({4: by_rank[4]}) is None
    assert isinstance(rank_trend({rank: {0: each[0]} for rank, each in by_rank.items()}), Described)


def test_a_learning_rate_is_chosen_by_the_other_training_seeds():
    lucky_once = {0: level(0.9), 1: level(0.2), 2: level(0.2)}
    steady = {0: level(0.5), 1: level(0.5), 2: level(0.5)}
    chosen = best_by_others([lucky_once, steady])
    assert chosen[0] == steady[0]  # by seeds 1 and 2, steady is better, whatever seed 0 says of itself
    assert chosen[1] == lucky_once[1]
