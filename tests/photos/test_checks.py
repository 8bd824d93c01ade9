"""What is wrong with a photo, found on drawn photos whose fault is known, and not found on sound ones."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from limner.photos import checked_table, dissimilar_photos, flaws, judge, look_at, without_head
from limner.photos.listing import Refusal


def detailed(seed=0, side=512):
    """A crop with edges and texture of every size, as photos have."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3))
    for step in (128, 32, 8, 2):
        coarse = rng.uniform(0, 255, (side // step, side // step, 3))
        picture += np.kron(coarse, np.ones((step, step, 1)))
    return (picture / 4).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_sound_photos_are_not_flagged(seed):
    assert flaws(detailed(seed)) == []


def test_each_fault_is_told():
    crop = detailed()
    assert flaws(cv2.GaussianBlur(crop, (0, 0), 4)) == ["blurred"]
    assert any("under-exposed" in flaw for flaw in flaws((crop * 0.3).astype(np.uint8)))
    assert any("over-exposed" in flaw for flaw in flaws(np.clip(crop * 2.2, 0, 255).astype(np.uint8)))
    assert "blurred" in flaws(np.full((64, 64, 3), 128, np.uint8))


def test_a_sharp_subject_before_a_blurred_ground_is_sharp():
    crop = cv2.GaussianBlur(detailed(), (0, 0), 6)
    crop[128:384, 128:384] = detailed()[128:384, 128:384]
    assert flaws(crop) == []


def test_heads_are_missed_only_where_most_have_one():
    assert without_head([True, True, False, True]) == [2]
    assert without_head([True, False, False, True]) == []
    assert without_head([True, True, False]) == []


def test_a_stranger_stands_out_and_a_varied_set_does_not():
    rng = np.random.default_rng(0)
    own = np.array([1.0, 0, 0, 0, 0]) + rng.normal(0, 0.2, (8, 5))
    other = np.array([[0.0, 1, 0, 0, 0]])
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    assert dissimilar_photos(unit(np.concatenate([own, other]))) == [8]
    assert dissimilar_photos(unit(np.concatenate([own[:2], other]))) == []


def test_the_table_puts_the_worst_first_and_is_empty_when_all_is_well():
    sound = SimpleNamespace(**{"source": "a.jpg", "notes": [], "warnings": []})
    warned = SimpleNamespace(**{"source": "b.jpg", "notes": ["blurred"], "warnings": ["blurred"]})
    noted = SimpleNamespace(**{"source": "c.gif", "notes": ["the first of 3 frames is used"], "warnings": []})
    assert checked_table([sound], []) == ""
    lines = checked_table([sound, noted, warned], [Refusal("long name.jpg", "empty")]).splitlines()
    assert lines[0] == "3 photos are used, 1 of them with a warning; 1 are left out"
    assert [line.split()[0] for line in lines[1:]] == ["left", "warning", "note"]
    assert len({line.index(why) for line, why in zip(lines[1:], ("empty", "blurred", "the first"), strict=True)}) == 1


def test_the_set_is_judged_by_number_framing_light_and_background():
    crop = np.full((128, 128, 3), (150, 120, 90), np.uint8)
    crop[40:60, 40:90] = 20
    same = judge([look_at(crop, (10.0, 10.0, 110.0, 110.0))] * 4)
    assert "4 photos; framing: 4 close" in same[0]
    advice = " ".join(same[1:])
    assert all(words in advice for words in ("are few", "farther", "same light", "few backgrounds", "few poses"))
    varied = [
        look_at(detailed(seed, 128) // (1 + seed % 3), (0.0, 0.0, 20.0 + 40 * (seed % 3), 20.0)) for seed in range(9)
    ]
    assert not any("farther" in line or "nearer" in line for line in judge(varied))
