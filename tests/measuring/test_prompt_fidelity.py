"""Prompts without their identifier."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.measuring import class_text, prompt_fidelity


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("photo of sks cat, in a garden", "photo of cat, in a garden"),
        ("sks cat and another sks cat", "cat and another cat"),
        ("a portrait of sks in the rain", "a portrait of cat in the rain"),
        ("the cat that sks asks", "the cat that cat asks"),
        ("a photo of a dog", "a photo of a dog"),
        ("sks caterpillar", "cat caterpillar"),
        ("sks  cat", "cat"),
    ],
)
def test_the_identifier_gives_way_to_the_class_noun(prompt, expected):
    assert class_text(prompt, "sks", "cat") == expected


def test_class_nouns_of_several_words_and_signs_in_identifiers_are_taken_literally():
    assert class_text("photo of sks woman face at night", "sks", "woman face") == "photo of woman face at night"
    assert class_text("photo of <s.k+s> cat", "<s.k+s>", "cat") == "photo of cat"
    assert class_text("sks cat", "sks", r"\1 cat") == r"\1 cat cat"


words = st.lists(st.sampled_from(["a", "photo", "garden", "asks", "night", "skss"]), max_size=5).map(" ".join)


@given(words, words)
def test_whatever_stands_around_it_stays(before, after):
    found = class_text(f"{before} sks cat {after}", "sks", "cat")
    assert found == f"{before} cat {after}"
    assert class_text(found, "sks", "cat") == found


def test_fidelity_is_the_cosine_of_each_picture_with_its_own_text():
    pictures, texts = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    assert prompt_fidelity(pictures, texts).tolist() == pytest.approx([0.6, 0.8])
