"""On real photos: how often EfficientNet-Lite0 finds the right cat of eight under each style.

LIMNER_CHECK_DATA says where the photos are; with -s the table is printed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.base import find_base, load_base
from limner.config import ClassImages, Prepare, Subject
from limner.embeddings import Crop, EfficientNetLite0, EmbeddingCache, SubjectHeads
from limner.measuring import power, put_through
from limner.measuring.styles import STYLES
from limner.stages.class_images import make_class_images
from limner.stages.context import Context
from limner.stages.prepare import prepare
from tests.embeddings.test_which_cat import CATS

ENOUGH_POWER = 0.6  # below, nothing is concluded from likeness
DATA = os.environ.get("LIMNER_CHECK_DATA", "")


def write_class_images(folder: Path) -> list[Path]:
    base = find_base("miniature")
    settings = ClassImages(**base.defaults["class_images"])
    subject = Subject(photos=folder, class_noun="cat face")
    context = Context(subject, lambda: load_base(base), base.content_hash)
    return make_class_images(context, settings, 256, folder).files


def in_style(crop: Crop, style: str) -> Crop:
    """Pictures put through a style before their heads are looked for."""
    if not style:
        return crop
    return replace(crop, name=f"{style}-{crop.name}", cut=lambda image, px: (put_through(image, [style]), True))


@pytest.mark.shared
@pytest.mark.timeout(900)  # head finding in some 1,700 pictures
@pytest.mark.skipif(not DATA, reason="LIMNER_CHECK_DATA names no folder with subjects/ of real cats")
def test_photos_and_light_leave_an_embedding_its_power_and_paintings_do_not(tmp_path):
    settings = Prepare(size_px=256, zoom="head")
    photos = [prepare(Path(DATA, "subjects", cat), tmp_path / cat, settings).files for cat in CATS]
    renders = write_class_images(tmp_path / "class")
    model, cache = EfficientNetLite0(), EmbeddingCache(tmp_path / "cache")
    crops = [SubjectHeads("cat", files).crop for files in photos]
    plain = [cache.embed(model, files, crop).vectors for files, crop in zip(photos, crops, strict=True)]
    shares: dict[str, float] = {}
    for style in ("", *STYLES):
        styled = [in_style(crop, style) for crop in crops]
        own = [cache.embed(model, files, crop).vectors for files, crop in zip(photos, styled, strict=True)]
        others = [torch.cat(own[:cat] + own[cat + 1 :]) for cat in range(len(CATS))]
        of_renders = [cache.embed(model, renders, crop).vectors for crop in styled]
        real, rendered = (
            np.mean([power(o @ p.T, w @ p.T) or 0.0 for o, w, p in zip(own, set_of_others, plain, strict=True)])
            for set_of_others in (others, of_renders)
        )
        shares[style] = float(real)
        print(f"{style or 'none'}: real others {real:.2f}, class images {rendered:.2f}")
        assert rendered > real  # renders are easier to tell from photos than others' photos are
    assert shares[""] > 0.9
    assert min(shares[name] for name in ("black and white", "sepia", "night", "sunset")) > ENOUGH_POWER
    assert max(shares[name] for name in ("pixel art", "pencil sketch", "anime", "neon")) < ENOUGH_POWER
