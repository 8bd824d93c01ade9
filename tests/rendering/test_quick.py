"""The quick look and validation pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from limner.adapters import Adapter, LowRankUpdates, attached, untouched
from limner.config import Render, Subject, Validation
from limner.errors import InputError
from limner.rendering import Recipe, recommended_render, render_prompt, render_validation
from limner.rendering.validation import validation_renderer
from limner.stages.context import Context
from limner.stages.render import render
from tests.adapters.test_adapter import random_low_rank
from tests.rendering.folders import lora_folder

SUBJECT = Subject(photos="photos", class_noun="cat")


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_quick_look_shows_the_studys_own_cell(tiny_base, tmp_path):
    folder = lora_folder(tmp_path, tiny_base)
    rows = [{"name": "garden", "prompt": "{subject} in a garden"}]
    settings = Render(steps=2, size=(64, 64), batch_size=1, negative_prompt="ugly", prompts=rows, lora_scales=[0.5])
    grid = render(Context(SUBJECT, lambda: tiny_base, "hash"), settings, [folder], tmp_path / "renders")
    adapter = Adapter.of("lora-2", LowRankUpdates(random_low_rank(tiny_base, 2, 5.0)))
    look = render_prompt(tiny_base, adapter, "sks cat in a garden", 42, strength=0.5, settings=settings)
    assert np.array_equal(pixels(look), np.asarray(Image.open(grid.path(grid.cells[-1]))))
    info = Image.open(io.BytesIO(look)).info
    assert info["parameters"].startswith("sks cat in a garden <lora:lora-2:0.5>\nNegative prompt: ugly\nSteps: 2,")
    assert json.loads(info["limner"])["seed"] == 42


def test_without_settings_the_bases_recommendation_counts(tiny_base):
    assert (recommended_render(tiny_base).steps, recommended_render(tiny_base).size) == (2, (64, 64))
    look = render_prompt(tiny_base, untouched(), "a cat", 1)
    assert pixels(look).shape == (64, 64, 3)
    assert look == render_prompt(tiny_base, untouched(), "a cat", 1)
    assert look != render_prompt(tiny_base, untouched(), "a cat", 1, image_index=1)


def test_a_size_that_does_not_divide(tiny_base):
    with pytest.raises(InputError, match="70x64 is not divisible by 8"):
        render_prompt(tiny_base, untouched(), "a cat", 1, size=(70, 64))


def test_validation_pictures_come_from_the_modules_as_they_are(tiny_base):
    settings = {"recipe": Recipe("ddim", 2, 5.0), "size": (64, 64), "batch_size": 2}
    before = render_validation(tiny_base, ["sks cat"] * 3, 0, **settings)
    assert before.shape == (3, 64, 64, 3)
    assert not np.array_equal(before[0], before[1])
    with attached(tiny_base.modules(), Adapter.of("lora", LowRankUpdates(random_low_rank(tiny_base)))):
        changed = render_validation(tiny_base, ["sks cat"] * 3, 0, **settings)
    assert not np.array_equal(before, changed)
    assert np.array_equal(before, render_validation(tiny_base, ["sks cat"] * 3, 0, **settings))


def test_the_trainers_validation_writes_one_picture_each(tiny_base, tmp_path):
    assert validation_renderer(lambda: tiny_base, SUBJECT, Validation(every_steps=0), tmp_path) is None
    settings = Validation(every_steps=5, count=2, prompt="{subject} at night")
    validation_renderer(lambda: tiny_base, SUBJECT, settings, tmp_path)(15)
    files = sorted((tmp_path / "validation").iterdir())
    assert [file.name for file in files] == ["000015-0.png", "000015-1.png"]
    with Image.open(files[1]) as picture:
        stamp = json.loads(picture.info["limner"])
        assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]
    assert (stamp["prompt"], stamp["step"], stamp["image_index"]) == ("sks cat at night", 15, 1)
