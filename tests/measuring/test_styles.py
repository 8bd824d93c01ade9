"""Styles: which of them a prompt names, and what putting a picture through them does."""

from __future__ import annotations

import numpy as np
import pytest

from limner.measuring import SIDE_PX, put_through, styles_named
from limner.measuring.styles import STYLES


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("a photo of sks cat", []),
        ("photo of sks woman face, wearing jeans, in a garden, 4k, realism, sharp focus", []),
        ("a party in an artificial cartography studio", []),
        ("A Watercolor Painting of sks cat", ["watercolour"]),
        ("pencil sketch of sks cat", ["pencil sketch"]),
        ("pixel art of sks cat, at night", ["pixel art", "night"]),
        ("a black and white pencil drawing of sks cat", ["pencil sketch", "black and white"]),
        ("portrait of sks man face, anime style, japan, midnight", ["anime", "night"]),
        ("portrait of sks man, classic art style, medieval europe", ["classic art"]),
        ("close-up portrait of sks woman, unreal engine, octane render", None),
        ("a mosaic of sks cat", None),
        ("sks cat in the style of an old master", None),
    ],
)
def test_a_prompt_names_its_styles(prompt, names):
    assert styles_named(prompt) == names


@pytest.mark.parametrize("name", list(STYLES))
def test_every_style_is_named_by_its_own_name_and_changes_the_picture(name):
    assert styles_named(f"a {name} of sks cat") == [name]
    picture = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    before = picture.copy()
    styled = put_through(picture, [name])
    assert styled.shape == picture.shape
    assert styled.dtype == np.uint8
    assert np.array_equal(picture, before)
    assert np.abs(styled.astype(int) - picture).mean() > 4
    assert np.array_equal(styled, put_through(picture, [name]))


@pytest.mark.parametrize("shape", [(300, 500, 3), (500, 300, 3), (64, 64, 3), (256, 256, 3)])
def test_pictures_of_any_shape_become_the_square_that_styles_are_made_for(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert put_through(picture, []).shape == (SIDE_PX, SIDE_PX, 3)
    assert put_through(picture, ["oil painting", "sepia"]).shape == (SIDE_PX, SIDE_PX, 3)


def test_styles_follow_one_another():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    once = put_through(picture, ["night"])
    assert np.array_equal(put_through(picture, ["night", "neon"]), put_through(once, ["neon"]))
