"""prepare with shape = "buckets": photos near the shape they have, and squares as they were."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import stage_key
from limner.config import Prepare
from limner.records import CropBox
from limner.stages.prepare import STAGE, VERSION, prepare
from tests.drawn import draw_subject

SETTINGS = Prepare(size_px=192, focus="center", shape="buckets")
PHOTOS = {"long.png": (600, 260), "tall.png": (250, 500), "square.png": (300, 290), "wide.png": (400, 225)}
CROPS = {"long.png": (256, 128), "tall.png": (128, 256), "square.png": (192, 192), "wide.png": (256, 128)}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, (name, size) in enumerate(PHOTOS.items()):
        draw_subject(size, index).save(folder / name)
    return folder


@pytest.mark.parametrize("focus", ["center", "auto"])
def test_each_photo_is_cut_to_the_nearest_shape_and_the_manifest_says_which(photos, tmp_path, focus):
    made = prepare(photos, tmp_path / "out", SETTINGS.model_copy(update={"focus": focus}))
    for photo, file in zip(made.photos, made.files, strict=True):
        crop, size = Image.open(file), CROPS[photo.source]
        assert crop.size == made.crop_size(photo) == size
        box, source = photo.crop, Image.open(photos / photo.source).convert("RGB")
        width, height = box.x1 - box.x0, box.y1 - box.y0
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
        assert width == source.width or height == source.height
        cut = source.crop((box.x0, box.y0, box.x1, box.y1)).resize(size, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(crop).astype(int) - np.asarray(cut)).max() <= 1
    assert made.training_shapes == {(128, 256): 1, (192, 192): 1, (256, 128): 2}
    with Image.open(tmp_path / "out" / "contact.jpg") as sheet:
        sheet.load()


def test_the_focus_by_hand_and_a_closer_crop_keep_the_shape(photos, tmp_path):
    (photos / "focus.toml").write_text('["wide.png"]\nat = [0.1, 0.9]\nside = 0.5\n', encoding="utf-8")
    made = prepare(photos, tmp_path / "out", SETTINGS.model_copy(update={"zoom": "head"}))
    wide = next(photo for photo in made.photos if photo.source == "wide.png")
    assert wide.crop == CropBox(x0=0, y0=125, x1=200, y1=225)
    assert Image.open(made.folder / wide.file).size == (256, 128)
    assert any("enlarged 1.3 times" in warning for warning in wide.warnings)


def test_photos_held_out_and_repeats_are_counted(photos, tmp_path):
    made = prepare(photos, tmp_path / "out", SETTINGS.model_copy(update={"held_out": 1}))
    assert sum(made.training_shapes.values()) == 3
    folder = tmp_path / "kohya"
    for name, photo in (("3_sks cat", "tall.png"), ("1_sks cat", "wide.png")):
        (folder / name).mkdir(parents=True)
        (photos / photo).rename(folder / name / photo)
    assert prepare(folder, tmp_path / "repeated", SETTINGS).training_shapes == {(128, 256): 3, (256, 128): 1}


def test_squares_have_the_key_that_they_had_before_there_were_buckets(photos, tmp_path):
    made = prepare(photos, tmp_path / "out", Prepare(size_px=192, focus="center"))
    record = made.manifest
    assert set(record.settings) == {"size_px", "focus", "zoom", "held_out", "most_megapixels", "keep"}
    assert record.key == stage_key(STAGE, VERSION, record.settings, record.inputs)
    assert all(photo.crop_size is None for photo in made.photos)
    assert made.training_shapes == {(192, 192): 4}
    before = made.content_hash
    assert prepare(photos, tmp_path / "out", SETTINGS).content_hash != before
    assert prepare(photos, tmp_path / "out", Prepare(size_px=192, focus="center")).content_hash == before
