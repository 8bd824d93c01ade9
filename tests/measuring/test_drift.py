"""Drift and diversity against sums done by hand, and which prompts they are measured on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from limner.artifacts import Cell
from limner.measuring import Picture, diversities, diversity, drift, pairs_with_base, prompt_kinds
from tests.measuring.test_likeness import cos, unit


def picture(variant: str, prompt: str, seed: int = 1, text: str = "", **more: object) -> Picture:
    return Picture(Cell(variant=variant, prompt=prompt, seed=seed, image_index=0, file="", text=text, **more), Path())  # type: ignore[arg-type]


def test_drift_is_the_distance_to_the_bases_picture():
    assert drift(unit(0, 30), unit(0, 90)).tolist() == pytest.approx([0, 1 - cos(60)], abs=1e-6)


def test_diversity_is_the_mean_distance_over_pairs():
    values = diversity(unit(0, 60, 90))
    assert values.tolist() == pytest.approx(
        [1 - (cos(60) + cos(90)) / 2, 1 - (cos(60) + cos(30)) / 2, 1 - (cos(90) + cos(30)) / 2], abs=1e-6
    )
    assert float(values.mean()) == pytest.approx(1 - (cos(60) + cos(90) + cos(30)) / 3, abs=1e-6)


def test_diversity_is_of_one_variant_and_prompt_and_needs_two_pictures():
    pictures = [picture("a", "x"), picture("b", "x"), picture("a", "x", 2), picture("a", "y"), picture("b", "y")]
    values = diversities(pictures, unit(0, 0, 90, 0, 0))
    assert list(values) == [0, 2]
    assert list(values.values()) == pytest.approx([1, 1], abs=1e-6)


def test_prompts_are_sorted_by_what_the_variants_are_asked_for():
    texts = {
        "subject": "a photo of sks cat",
        "class": "a photo of a Cat, at night",
        "category": "a category of tasks",  # neither "cat" nor "sks" is a word of it
        "house": "a red house",
    }
    pictures = [picture("lora", name, text=text) for name, text in texts.items()]
    pictures += [
        picture("base", "subject", text="a photo of cat"),
        picture("lora", "a cat", text="a cat", reference="r"),
    ]
    kinds = prompt_kinds(pictures, "sks", "cat")
    assert kinds.of_class == ["class"]
    assert kinds.unrelated == ["category", "house"]
    assert kinds.without_subject == {"class", "category", "house"}


def test_pictures_meet_the_bases_of_the_same_prompt_and_seed():
    pictures = [picture("base", "x", 2), picture("a", "x", 1), picture("a", "x", 2), picture("base", "x", 1)]
    assert pairs_with_base(pictures) == [(1, 3), (2, 0)]
    assert pairs_with_base(pictures[1:3]) == []


def test_a_variant_that_paints_what_the_base_paints_has_not_drifted():
    same = torch.nn.functional.normalize(torch.randn(5, 7, generator=torch.manual_seed(0)), dim=1)
    assert drift(same, same).abs().max() < 1e-6
    assert math.isclose(float(drift(same, -same).mean()), 2, abs_tol=1e-5)
