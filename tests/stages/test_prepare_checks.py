"""prepare with photos that need a judgement: kept, reduced, captioned, of another subject."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from limner.artifacts import PhotoSet
from limner.config import Prepare
from limner.decoding import Decoders
from limner.errors import PhotoError
from limner.stages.prepare import prepare
from tests.drawn import draw_subject
from tests.stages.test_prepare import SETTINGS, Heard, content_of


def test_a_photo_that_is_too_small_or_too_large_can_be_kept(photo_folder, tmp_path):
    draw_subject((60, 40), 8).save(photo_folder / "small.png")
    draw_subject((1200, 1000), 9).save(photo_folder / "vast.png")
    settings = SETTINGS.model_copy(update={"most_megapixels": 1.0})
    refused = prepare(photo_folder, tmp_path / "a", settings).refused
    assert [refusal.source for refusal in refused] == ["small.png", "vast.png"]
    kept = settings.model_copy(update={"keep": ["small.png", "vast.png"]})
    photo_set = prepare(photo_folder, tmp_path / "b", kept)
    assert photo_set.refused == []
    small = next(photo for photo in photo_set.photos if photo.source == "small.png")
    assert small.warnings[0] == "enlarged 1.6 times, from 40 px"
    with pytest.raises(PhotoError, match=r"no photo gone\.png to keep"):
        prepare(photo_folder, tmp_path / "c", settings.model_copy(update={"keep": ["gone.png"]}))


def test_crops_of_reduced_photos_are_told_in_pixels_of_the_source(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    draw_subject((1203, 801), 4).save(photos / "a.jpg")
    draw_subject((1203, 801), 4).save(photos / "b.png")
    photo_set = prepare(photos, tmp_path / "out", SETTINGS)
    for photo in photo_set.photos:
        box = photo.crop
        assert box.x1 - box.x0 == box.y1 - box.y0 == 801
        assert abs(box.x0 - 201) <= 6
    corners = photo_set.photos[1].crop.corners
    source = np.asarray(Image.open(photos / "b.png").crop(corners).resize((16, 16), Image.Resampling.BOX))
    crop = np.asarray(Image.open(photo_set.files[1]).resize((16, 16), Image.Resampling.BOX)).astype(int)
    assert np.abs(crop - source).mean() < 3


def test_the_number_of_processes_changes_nothing(photo_folder, tmp_path, monkeypatch):
    (photo_folder / "bad.jpg").write_text("no picture")
    made = []
    for count in (1, 3):
        monkeypatch.setattr(Decoders, "for_photos", classmethod(lambda cls, _, count=count: cls(count)))
        prepare(photo_folder, tmp_path / str(count), SETTINGS)
        made.append(content_of(tmp_path / str(count)))
    assert made[0] == made[1]


def test_faults_are_told_in_one_table_before_the_judgement(photo_folder, tmp_path):
    draw_subject((200, 200), 7).filter(ImageFilter.GaussianBlur(9)).save(photo_folder / "soft.png")
    heard = Heard()
    photo_set = prepare(photo_folder, tmp_path / "out", Prepare(size_px=128, focus="center"), progress=heard)
    soft = photo_set.photos[-1]
    assert "blurred" in soft.warnings
    assert "blurred" in soft.notes
    assert "warning   soft.png" in heard.lines[0]
    assert heard.lines[1:] == photo_set.record.judgement


def test_another_subject_among_them_is_warned_of(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(6):
        draw_subject((200, 200), 1).rotate(index).save(photos / f"{index}.png")
    rows = np.indices((200, 200)).sum(0) // 25 % 2
    Image.fromarray((rows * 255).astype(np.uint8)).save(photos / "z.png")
    photo_set = prepare(photos, tmp_path / "out", Prepare(size_px=128))
    warned = [photo.source for photo in photo_set.photos if any("unlike" in text for text in photo.warnings)]
    assert warned == ["z.png"]


def test_captions_and_repeats_reach_the_photo_set(photo_folder, tmp_path):
    folder = tmp_path / "10_sks blob"
    photo_folder.rename(folder)
    (folder / "photo-1.txt").write_text("on a shelf")
    parent = tmp_path / "all"
    parent.mkdir()
    folder.rename(parent / "10_sks blob")
    (parent / "2_sks blob").mkdir()
    draw_subject((150, 150), 9).save(parent / "2_sks blob" / "a.png")
    photo_set: PhotoSet = prepare(parent, tmp_path / "out", SETTINGS)
    assert [photo.caption for photo in photo_set.photos] == ["", "on a shelf", "", "", "", ""]
    assert photo_set.training_repeats == [5, 5, 5, 5, 5, 1]
    assert photo_set.training_hash != photo_set.content_hash
    (parent / "10_sks blob" / "photo-1.txt").write_text("on a table")
    assert prepare(parent, tmp_path / "out", SETTINGS).photos[1].caption == "on a table"
