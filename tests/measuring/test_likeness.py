"""Likeness, ceiling, span and copying against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.measuring import ceiling, likeness, nearest_photo, photo_spread, span_fraction


def unit(*degrees: float) -> torch.Tensor:
    """Vectors in the plane at these angles: their cosine is the cosine of the angle between them."""
    return torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees])


def cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def test_likeness_is_the_mean_cosine_to_all_photos():
    values = likeness(unit(0, 90), unit(0, 60))
    assert values.tolist() == pytest.approx([(1 + cos(60)) / 2, (cos(90) + cos(30)) / 2], abs=1e-6)


def test_the_ceiling_leaves_each_photo_out():
    expected = (3 * cos(10) + 2 * cos(20) + cos(30)) / 6  # of 0, 10, 20, 30: three pairs at 10, two at 20, one at 30
    assert ceiling(unit(0, 10, 20, 30)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_than_four_photos_have_neither_ceiling_nor_spread(count):
    photos = torch.nn.functional.normalize(torch.ones(count, 5), dim=1)
    assert ceiling(photos) is None
    assert photo_spread(photos[:, None]) is None


def test_the_span_runs_from_the_base_to_real_photos():
    assert span_fraction(0.6, floor=0.5, top=0.9) == pytest.approx(0.25)
    assert span_fraction(0.4, floor=0.5, top=0.9) == pytest.approx(-0.25)
    assert span_fraction(0.6, floor=0.5, top=None) is None
    assert span_fraction(0.6, floor=None, top=0.9) is None
    assert span_fraction(0.6, floor=0.9, top=0.9) is None


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.01, 0.5))
def test_the_span_is_linear_between_its_ends(share, floor, width):
    top = floor + width
    assert span_fraction(floor + share * width, floor, top) == pytest.approx(share, abs=1e-9)


def views(*photos: tuple[float, ...]) -> torch.Tensor:
    """For each photo its views at these angles: (M, V, 2)."""
    return torch.stack([unit(*degrees) for degrees in photos])


def test_a_copy_is_found_in_any_view_of_a_photo():
    values = nearest_photo(unit(0, 140, 90), views((0, 180), (40, 140)))
    assert values.tolist() == pytest.approx([1, 1, cos(50)], abs=1e-6)


def test_the_photo_that_a_picture_is_itself_does_not_count():
    references = torch.nn.functional.normalize(torch.randn(5, 3, 16, generator=torch.manual_seed(0)), dim=-1)
    assert nearest_photo(references[1:2, 2], references).item() == pytest.approx(1, abs=1e-5)
    elsewhere = nearest_photo(references[1:2, 2], references, torch.tensor([1])).item()
    others = references[torch.arange(5) != 1]
    assert elsewhere == pytest.approx(float((others @ references[1, 2]).max()), abs=1e-5)


def test_photos_spread_is_the_nearest_other_of_each_and_never_itself():
    spread = photo_spread(views((0, 180), (10, 170), (30, 150), (90, 100)))
    assert spread is not None
    # 0 and 10 are nearest to each other; 30 to 10; 90 to 30 (its own view at 100 does not count)
    assert spread.nearest == pytest.approx([cos(60), cos(20), cos(10), cos(10)], abs=1e-6)
    assert spread.limit == pytest.approx(cos(10), abs=1e-6)
    assert spread.rank(cos(15)) == 0.5
    assert spread.rank(1.0) == 1.0
    assert spread.rank(0.0) == 0.0


@given(st.lists(st.floats(0, 359), min_size=4, max_size=9), st.floats(0, 359))
def test_bounds_hold_for_any_photos(angles, angle):
    photos, render = unit(*angles), unit(angle)
    value, near = float(likeness(render, photos)), float(nearest_photo(render, torch.stack([photos, -photos], 1)))
    assert -1 - 1e-5 <= value <= near + 1e-5 <= 1 + 2e-5
    spread = photo_spread(photos[:, None])
    assert spread is not None
    assert len(spread.nearest) == len(angles)
    assert float(ceiling(photos) or 0) <= spread.limit + 1e-5
    assert 0 <= spread.rank(near) <= 1
