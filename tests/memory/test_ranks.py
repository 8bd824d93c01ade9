"""Ranks that are no longer low are told by name, and only those."""

from __future__ import annotations

import json

from limner.config import resolve_study
from limner.memory import Shapes, ranks_not_low, read_shapes
from limner.memory.shapes import SD15

SD15_SHAPES = Shapes(**{part: json.dumps(config, sort_keys=True) for part, config in SD15.items()})


def _told(shapes, **variant):
    raw = {"subject": {"photos": "photos", "class_noun": "cat"}, "variants": [{"method": "lora", **variant}]}
    return ranks_not_low(resolve_study(raw, {}), shapes)


def test_a_rank_is_told_where_its_update_is_as_large_as_a_layer():
    told = _told(SD15_SHAPES, rank=[16, 128, 159, 160, 256])  # 320 x 320 / (320 + 320) = 160
    assert list(told) == ["lora-160", "lora-256"]
    assert "rank 256" in told["lora-256"]
    assert "from rank 160 on" in told["lora-256"]


def test_only_layers_that_are_trained_count(tiny_folder):
    from limner.base import find_base

    shapes = read_shapes(find_base(str(tiny_folder)))  # 8 channels in its UNet, 16 in its text encoder
    assert list(_told(shapes, rank=[1, 3, 4], unet=True)) == ["lora-4"]
    assert list(_told(shapes, rank=[4, 8], unet=False, text_encoder=True)) == ["lora-8"]
    assert not ranks_not_low(_full(), shapes)


def _full():
    raw = {"subject": {"photos": "photos", "class_noun": "cat"}, "variants": [{"method": "full"}]}
    return resolve_study(raw, {})
