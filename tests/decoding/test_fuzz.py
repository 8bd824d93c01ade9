"""A seeded few of the mutated pictures; `python -m tests.decoding.fuzz` takes thousands."""

from __future__ import annotations

from tests.decoding.fuzz import fuzz, mutated, sound_pictures


def test_no_mutated_picture_crashes_or_hangs_a_decoder(tmp_path):
    outcomes, bad = fuzz(tmp_path, 120, seed=1)
    assert bad == []
    assert outcomes["read"] > 10  # mutations are not all so wild that only the header is ever reached
    assert outcomes["refused"] > 10
    assert outcomes.total() == 120


def test_mutations_can_be_made_again():
    pictures = sound_pictures()
    assert mutated(pictures, 1, 7) == mutated(pictures, 1, 7)
    assert mutated(pictures, 1, 7) != mutated(pictures, 2, 7)
