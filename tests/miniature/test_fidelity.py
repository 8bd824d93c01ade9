"""Kernel distance and nearest training pictures: what they say of samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

from miniature.fidelity import (
    kernel_distance,
    polynomial_mmd,
    split_kernel_distance,
)


def sample(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 8)) + shift


def test_the_discrepancy_is_that_of_the_definition() -> None:
    first, second = sample(0, 3), sample(1, 4)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 8 + 1) ** 3)

    own = np.mean([kernel(first[i], first[j]) for i in range(3) for j in range(3) if i != j])
    its = np.mean([kernel(second[i], second[j]) for i in range(4) for j in range(4) if i != j])
    between = np.mean([kernel(x, y) for x in first for y in second])
    assert polynomial_mmd(first, second) == pytest.approx(own + its - 2 * between)


def test_the_discrepancy_is_unbiased() -> None:
    values = [polynomial_mmd(sample(2 * seed, 10), sample(2 * seed + 1, 20)) for seed in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_kernel_distance_grows_with_the_shift_between_samples_and_repeats() -> None:
    near, far = (kernel_distance(sample(0, 60), sample(1, 80, shift), subsets=20) for shift in (0.2, 1.0))
    assert far[0] > near[0] + 3 * near[1]
    assert far == kernel_distance(sample(0, 60), sample(1, 80, 1.0), subsets=20)


def test_versions_of_the_same_pictures_are_never_compared_with_themselves() -> None:
    pictures = sample(0, 60)
    assert kernel_distance(pictures, pictures, subsets=50)[0] < 0  # pictures met themselves: biased below zero
    mean, spread = split_kernel_distance(pictures, pictures, subsets=50)
    assert abs(mean) < spread
    assert split_kernel_distance(pictures + 1, pictures, subsets=50)[0] > 3 * spread
