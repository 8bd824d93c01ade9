"""prepare: where crops lie, and how the owner of the photos moves them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.config import Prepare
from limner.decoding import Decoders
from limner.errors import PhotoError
from limner.records import CropBox
from limner.stages.prepare import prepare
from tests.embeddings.drawn_heads import draw_cat_head, draw_person_head, placed
from tests.stages.test_prepare import content_of

CENTER = Prepare(size_px=64, focus="center")
LEFT, RIGHT = (20, 60), (560, 60)


@pytest.fixture
def pets_and_owner(tmp_path):
    """Three photos of a cat on the left; in the last one a person, on the right."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        pixels = placed(draw_cat_head(), (900, 400), (LEFT[0] + 20 * index, LEFT[1]), 300).copy()
        if index == 2:
            person = placed(draw_person_head(), (300, 300), (0, 0), 300)
            pixels[RIGHT[1] : RIGHT[1] + 300, RIGHT[0] : RIGHT[0] + 300] = person
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_the_head_that_recurs_is_in_every_crop_and_the_user_may_ask_for_the_other(pets_and_owner, tmp_path):
    photos = prepare(pets_and_owner, tmp_path / "auto", Prepare(size_px=64)).photos
    assert [photo.head.kind for photo in photos] == ["cat"] * 3
    assert all(photo.crop.x0 < 150 for photo in photos)
    asked = prepare(pets_and_owner, tmp_path / "face", Prepare(size_px=64, focus="face")).photos[2]
    assert asked.head.kind == "person"
    assert asked.crop.x1 > 800


@pytest.mark.parametrize("zoom", ["picture", "head"])
def test_nothing_depends_on_how_many_processes_look_and_only_the_chosen_crops_stay(
    pets_and_owner, tmp_path, monkeypatch, zoom
):
    made = []
    for count in (1, 3):
        monkeypatch.setattr(Decoders, "for_photos", classmethod(lambda cls, _, count=count: cls(count)))
        photo_set = prepare(pets_and_owner, tmp_path / str(count), Prepare(size_px=64, zoom=zoom))
        made.append((photo_set.photos, content_of(tmp_path / str(count))))
    assert made[0] == made[1]
    assert sorted(made[0][1]) == ["0000.png", "0001.png", "0002.png", "contact.jpg"]
    for photo, path in zip(photo_set.photos, photo_set.files, strict=True):
        box = photo.crop.corners
        source = Image.open(pets_and_owner / photo.source).crop(box).resize((16, 16), Image.Resampling.BOX)
        crop = Image.open(path).resize((16, 16), Image.Resampling.BOX)
        assert np.abs(np.asarray(source).astype(int) - np.asarray(crop)).mean() < 3


def test_the_manifest_says_where_crop_and_head_lie_in_the_photo(pets_and_owner, tmp_path):
    photo = prepare(pets_and_owner, tmp_path / "out", Prepare(size_px=64, zoom="head")).photos[0]
    assert photo.size == (900, 400)
    x0, y0, x1, y1 = photo.head.box
    crop = photo.crop
    assert crop.x0 <= x0 < x1 <= crop.x1
    assert crop.y0 <= y0 < y1 <= crop.y1
    assert 0.45 < max(x1 - x0, y1 - y0) / (crop.x1 - crop.x0) < 0.75
    assert 0 < photo.head.score <= 1


def test_focus_toml_moves_a_crop_and_only_a_change_in_it_makes_anew(pets_and_owner, tmp_path):
    settings = CENTER.model_copy(update={"size_px": 256})  # so large that photos are read at their full scale
    out = tmp_path / "out"
    before = prepare(pets_and_owner, out, settings).photos
    (pets_and_owner / "focus.toml").write_text('["1.png"]\nat = [1.0, 0.5]\nside = 0.5\n')
    after = prepare(pets_and_owner, out, settings).photos
    assert after[1].crop == CropBox(x0=700, y0=100, x1=900, y1=300)
    assert after[1].focus == "by hand"
    assert [after[index].crop for index in (0, 2)] == [before[index].crop for index in (0, 2)]
    with Image.open(pets_and_owner / "1.png") as source, Image.open(out / "0001.png") as crop:
        expected = source.crop((700, 100, 900, 300)).resize((256, 256), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(crop), np.asarray(expected))
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    prepare(pets_and_owner, out, settings)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times


def test_a_fault_in_focus_toml_ends_the_command_and_writes_nothing(pets_and_owner, tmp_path):
    (pets_and_owner / "focus.toml").write_text('["9.png"]\nat = [0.5, 0.5]\n')
    with pytest.raises(PhotoError, match=r"9\.png"):
        prepare(pets_and_owner, tmp_path / "out", CENTER)
    assert not (tmp_path / "out").exists()
