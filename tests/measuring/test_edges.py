"""Edge agreement against shifts whose score is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from limner.measuring import canny_edges, edge_agreement


def square(shift_px: int = 0) -> np.ndarray:
    """The outline of a square of side 40 in 96x96, moved to the right and down."""
    edges = np.zeros((96, 96), bool)
    edges[20 + shift_px : 61 + shift_px, 20 + shift_px : 61 + shift_px] = True
    edges[21 + shift_px : 60 + shift_px, 21 + shift_px : 60 + shift_px] = False
    return edges


@pytest.mark.parametrize("shift_px", [0, 1])
def test_edges_that_moved_within_the_tolerance_agree_wholly(shift_px):
    assert edge_agreement(square(shift_px), square()) == 1.0


def test_edges_that_moved_further_hardly_agree():
    assert edge_agreement(square(5), square()) < 0.2
    assert edge_agreement(square(5), square(), tolerance_px=8) == 1.0


def test_f1_weighs_what_is_missing_against_what_is_added():
    given_edges = np.zeros((64, 64), bool)
    given_edges[10, 10:50] = given_edges[50, 10:50] = True
    half = given_edges.copy()
    half[50] = False
    assert edge_agreement(half, given_edges) == pytest.approx(2 * 1 * 0.5 / 1.5)  # precision 1, recall 1/2
    assert edge_agreement(given_edges, half) == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_nothing_agrees_with_nothing_only():
    empty = np.zeros((96, 96), bool)
    assert edge_agreement(empty, empty) == 1.0
    assert edge_agreement(empty, square()) == 0.0
    assert edge_agreement(square(), empty) == 0.0


def test_edge_maps_of_different_sizes_are_an_error():
    with pytest.raises(ValueError, match="differ in size"):
        edge_agreement(square(), square()[1:])


def test_canny_sees_the_outline_of_a_shape():
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[20:61, 20:61] = 255
    assert edge_agreement(canny_edges(picture, 100, 200), square()) == 1.0
    assert not canny_edges(np.full((32, 32, 3), 90, np.uint8), 100, 200).any()


maps = arrays(bool, (12, 12))


@given(maps, maps)
def test_agreement_is_symmetric_and_a_share(first, second):
    value = edge_agreement(first, second)
    assert 0 <= value <= 1
    assert value == pytest.approx(edge_agreement(second, first))
    assert edge_agreement(first, first) == 1.0
