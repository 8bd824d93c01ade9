"""Power: the subject among eight, against every choice of others counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.measuring import LINE_UP, power


def vectors(seed: int, count: int, features: int = 4) -> torch.Tensor:
    values = torch.randn(count, features, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=1)


def of(styled: torch.Tensor, others: torch.Tensor, photos: torch.Tensor) -> float | None:
    return power(styled @ photos.T, others @ photos.T)


def counted(styled: torch.Tensor, others: torch.Tensor, photos: torch.Tensor) -> float:
    """Every photo beside every seven of the others."""
    right = []
    for own in range(len(photos)):
        gallery = photos[torch.arange(len(photos)) != own]
        score = (styled[own] @ gallery.T).mean()
        scores = (others @ gallery.T).mean(1)
        right += [bool((scores[list(seven)] < score).all()) for seven in itertools.combinations(range(len(others)), 7)]
    return float(np.mean(right))


@given(st.integers(0, 10_000), st.integers(4, 6), st.integers(7, 9))
def test_power_is_the_share_of_all_line_ups_in_which_the_subject_is_found(seed, photos, others):
    given_vectors = vectors(seed, photos), vectors(seed + 1, others), vectors(seed + 2, photos)
    assert of(*given_vectors) == pytest.approx(counted(*given_vectors), abs=1e-9)


def test_a_subject_that_stands_apart_is_always_found_and_one_that_others_surpass_never():
    photos = torch.nn.functional.normalize(vectors(0, 5, 8) * 0.1 + torch.eye(8)[0], dim=1)
    others = torch.nn.functional.normalize(vectors(1, 9, 8) * 0.1 + torch.eye(8)[1], dim=1)
    assert of(photos, others, photos) == 1
    assert of(others[:5], photos.repeat(2, 1), photos) == 0


def test_an_embedding_that_knows_nothing_names_one_in_eight():
    shares = [of(vectors(3 * k, 8), vectors(3 * k + 1, 20), vectors(3 * k + 2, 8)) or 0.0 for k in range(400)]
    error = float(np.std(shares)) / len(shares) ** 0.5
    assert abs(float(np.mean(shares)) - 1 / LINE_UP) < 4 * error


def test_a_photo_is_not_compared_with_itself():
    """Two photos that are the same in style and plain would make every photo sure of itself."""
    photos = torch.eye(6)[:4]  # nothing in common with one another
    others = torch.nn.functional.normalize(torch.ones(7, 6), dim=1)
    assert of(photos, others, photos) == 0


@pytest.mark.parametrize(("photos", "others"), [(3, 9), (5, 6), (0, 0)])
def test_with_few_photos_or_others_it_is_not_measurable(photos, others):
    assert of(vectors(0, photos), vectors(1, others), vectors(2, photos)) is None
