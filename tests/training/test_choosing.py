"""The rule that chooses a step, on curves whose answer is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from limner.config import Validation
from limner.records import ValidationRecord
from limner.training.choosing import choose, judged, possible_steps, stopping_step

BEST = {"every_steps": 10, "keep": "best"}


def settings(**own):
    return Validation(**(BEST | own))


def curve(likeness, fidelity=None, copying=None):
    fidelity, copying = fidelity or [1.0] * len(likeness), copying or [0.0] * len(likeness)
    rows = zip(likeness, fidelity, copying, strict=True)
    return [
        ValidationRecord(step=10 * (place + 1), likeness_share=one, fidelity_share=other, copying_share=copied)
        for place, (one, other, copied) in enumerate(rows)
    ]


def test_the_peak_of_both_is_chosen_not_that_of_one():
    rows = curve([0.1, 0.5, 0.7, 0.8, 0.85], [1.0, 0.95, 0.9, 0.5, 0.2])
    assert choose(rows, settings(neighbours=0), 50).step == 30
    assert choose(rows, settings(neighbours=0, likeness_weight=1.0), 50).step == 50
    assert choose(rows, settings(neighbours=0, likeness_weight=0.0), 50).step == 10


def test_a_base_that_learnt_nothing_is_worth_nothing_however_well_it_obeys():
    assert [step.score for step in judged(curve([-0.4, 0.0, 0.25]), settings(neighbours=0))] == [0.0, 0.0, 0.5]
    assert choose(curve([0.0, 0.2], [1.0, 0.6]), settings(neighbours=0), 20).step == 20
    assert choose(curve([-0.4, -0.1, -0.2]), settings(neighbours=0), 30).step == 20


def test_patience_begins_when_a_step_is_worth_something():
    slow = curve([-0.1, -0.5, -0.6, -0.4, 0.3, 0.2, 0.2])
    assert stopping_step(slow[:4], settings(neighbours=0, patience=2)) is None
    assert stopping_step(slow, settings(neighbours=0, patience=2)) == 70


def test_a_single_lucky_validation_does_not_win_over_a_plateau():
    rows = curve([0.1, 0.9, 0.1, 0.6, 0.7, 0.65])
    assert choose(rows, settings(neighbours=0), 60).step == 20
    assert choose(rows, settings(neighbours=1), 60).step in (50, 60)


def test_what_copies_is_not_chosen_and_where_all_copy_the_least_is():
    rows = curve([0.3, 0.6, 0.9], copying=[0.0, 0.1, 0.3])
    assert choose(rows, settings(neighbours=0), 30).step == 20
    assert choose(rows, settings(neighbours=0, copying_limit=0.5), 30).step == 30
    all_copy = curve([0.3, 0.6, 0.9], copying=[0.5, 0.4, 0.9])
    found = choose(all_copy, settings(neighbours=0), 30)
    assert found.step == 20
    assert "no step was within" in found.why


def test_likeness_beyond_real_photos_and_fidelity_beyond_the_base_count_no_more():
    assert choose(curve([1.0, 1.6], [1.0, 0.99]), settings(neighbours=0), 20).step == 10
    assert choose(curve([0.5, 0.49], [1.0, 1.5]), settings(neighbours=0), 20).step == 10


def test_without_measurements_it_is_the_last_step_and_says_so():
    unmeasured = [row.model_copy(update={"copying_share": None}) for row in curve([0.5, 0.9, 0.1])]
    found = choose(unmeasured, settings(), 30)
    assert found.step == 30
    assert "could not be measured" in found.why
    assert possible_steps(unmeasured, settings()) == set()
    assert choose(curve([0.9, 0.1]), settings(keep="last"), 20).step == 20


def test_training_stops_when_no_better_step_has_come_for_as_long_as_patience():
    rows = curve([0.1, 0.5, 0.8, 0.7, 0.6, 0.5, 0.9])
    assert stopping_step(rows, settings(neighbours=0, patience=2)) == 50
    assert stopping_step(rows[:4], settings(neighbours=0, patience=2)) is None
    assert stopping_step(rows, settings(neighbours=0, patience=4)) is None
    assert stopping_step(rows, settings(neighbours=0)) is None
    found = choose(rows, settings(neighbours=0, patience=2), 50)
    assert (found.step, found.stopped_at) == (30, 50)


shares = st.floats(-0.5, 1.5, allow_nan=False)
rows = st.lists(st.tuples(shares, shares, st.sampled_from([0.0, 0.125, 0.25, 1.0])), min_size=1, max_size=12)


@given(rows, st.integers(0, 3), st.integers(1, 12))
def test_the_final_choice_was_never_given_up_on_the_way(values, neighbours, seen):
    """Weights of steps that are not possible any more are deleted, so the choice must be possible at every moment."""
    whole, rule = curve(*map(list, zip(*values, strict=True))), settings(neighbours=neighbours)
    final = choose(whole, rule, whole[-1].step).step
    if final <= 10 * seen:
        assert final in possible_steps(whole[:seen], rule)


@given(rows, st.integers(0, 2), st.integers(1, 4))
def test_where_training_stops_does_not_depend_on_what_comes_after(values, neighbours, patience):
    whole, rule = (
        curve(*map(list, zip(*values, strict=True))),
        settings(neighbours=neighbours, patience=patience),
    )
    stop = stopping_step(whole, rule)
    if stop is not None:
        seen = [row for row in whole if row.step <= stop]
        assert stopping_step(seen, rule) == stop
        assert choose(seen, rule, stop).step == choose(whole, rule, whole[-1].step).step
        assert choose(seen, rule, stop).step <= stop
    assert len(judged(whole, rule)) == len(whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": "best"}, "set every_steps"),
        ({"score": True}, "set every_steps"),
        ({"keep": "best", "every_steps": 5, "prompts": ["a photo of {subject}"]}, "two prompts or more"),
        ({"every_steps": 5, "patience": 2}, "patience"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        Validation(**given)
