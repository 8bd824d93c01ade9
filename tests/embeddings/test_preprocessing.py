"""Own preprocessing against transformers' Pillow processors, and configurations that cannot be understood."""

from __future__ import annotations

import json

import numpy as np
import pytest

from limner.embeddings.preprocessing import clip_preprocessing, read_preprocessing
from limner.errors import EmbedderError


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(height * width)
    ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    return (ramp + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 40), (50, 70), (90, 41), (20, 33)])
def test_clip_pictures_are_prepared_as_transformers_prepares_them(shape):
    from transformers import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = theirs(picture(*shape), return_tensors="pt").pixel_values
    found = clip_preprocessing(32).apply([picture(*shape)])
    assert found.shape == (1, 3, 32, 32)
    assert (found - expected).abs().max() < 0.02  # one grey level is 0.015


def test_vit_pictures_are_prepared_as_transformers_prepares_them(tmp_path):
    from transformers import ViTImageProcessorPil

    record = {"size": 32, "resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    theirs = ViTImageProcessorPil(**{**record, "size": {"height": 32, "width": 32}})
    expected = theirs(picture(50, 70), return_tensors="pt").pixel_values
    prepared = read_preprocessing(tmp_path)
    assert prepared is not None
    assert (prepared.apply([picture(50, 70)]) - expected).abs().max() < 0.03


def test_a_larger_resize_than_crop_keeps_the_centre(tmp_path):
    record = {
        "do_center_crop": True, "size": {"shortest_edge": 40}, "crop_size": {"height": 20, "width": 20},
        "image_mean": [0, 0, 0], "image_std": [1, 1, 1],
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    prepared = read_preprocessing(tmp_path)
    assert prepared is not None
    image = picture(40, 40)
    centre = image[10:30, 10:30].transpose(2, 0, 1) / 255
    assert np.allclose(prepared.apply([image])[0].numpy(), centre, atol=1e-6)


def test_no_configuration_is_none_and_a_damaged_one_is_named(tmp_path):
    assert read_preprocessing(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 3, "width": 4}}')
    with pytest.raises(EmbedderError, match="not square"):
        read_preprocessing(tmp_path)
