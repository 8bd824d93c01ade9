"""Class images that a user brings are read as carefully as photos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.config import ClassImages, Subject
from limner.errors import InputError
from limner.stages.class_images import make_class_images
from limner.stages.context import Context
from tests.drawn import draw_subject
from tests.rendering.folders import Recorder, never

SUBJECT = Subject(photos="photos", identifier="sks", class_noun="cat")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def make(folder, count, progress=None):
    context = Context(SUBJECT, never, "hash", progress=progress or Recorder())
    return make_class_images(context, ClassImages(count=count, folder=folder), 64, folder.parent / "class")


def pixels_of(class_set):
    return [np.asarray(Image.open(file)) for file in class_set.files]


def test_hidden_colours_stay_hidden_and_deep_grey_is_scaled(folder):
    hidden = np.zeros((80, 80, 4), np.uint8)
    hidden[..., 0] = 255  # red, but transparent
    hidden[30:50, 30:50] = (0, 200, 0, 255)
    Image.fromarray(hidden).save(folder / "1.png")
    ramp = np.linspace(0, 65535, 80 * 80).reshape(80, 80).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "2.png")
    progress = Recorder()
    clear, deep = pixels_of(make(folder, 2, progress))
    assert clear[0, 0].tolist() == [255, 255, 255]
    assert deep.min() < 5
    assert 120 < deep.mean() < 135
    assert any("note      1.png  transparent parts were put on white" in notice for notice in progress.notices)


def test_what_is_too_small_too_large_or_unreadable_is_left_out_with_the_reason(folder):
    draw_subject((90, 100), 1).save(folder / "1.png")
    Image.new("RGB", (20, 900)).save(folder / "2_thin.png")
    Image.new("RGB", (1, 1)).save(folder / "3_dot.png")
    Image.new("1", (20000, 20000)).save(folder / "4_huge.png")
    (folder / "5.tga").write_bytes(b"x")
    progress = Recorder()
    with pytest.raises(InputError, match="holds 1 pictures that can be used and count is 2") as raised:
        make(folder, 2, progress)
    reasons = {"2_thin.png": "20x900 pixels are too few", "3_dot.png": "1x1 pixels are too few",
               "4_huge.png": "20000x20000 pixels are too many", "5.tga": r".tga is not read"}  # fmt: skip
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in str(raised.value)
        assert sum(notice.count(f"left out  {name}") for notice in progress.notices) == 1
    assert len(make(folder, 1).files) == 1


def test_kohyas_folders_are_read_and_what_counts_for_photos_only_is_named(folder):
    for number, inner in enumerate(("5_cat", "1_cat")):
        (folder / inner).mkdir()
        draw_subject((90, 100), number).save(folder / inner / "a.png")
    (folder / "1_cat" / "a.caption").write_text("on a sofa")
    (folder / "clip.mp4").write_bytes(b"x")
    progress = Recorder()
    class_set = make(folder, 2, progress)
    assert [image.source for image in class_set.record.images] == ["1_cat/a.png", "5_cat/a.png"]
    (notice,) = progress.notices
    assert all(f"not used  {what} " in notice for what in ("clip.mp4", "captions", "5_…/"))


def test_a_picture_that_is_enlarged_is_noted(folder):
    draw_subject((64, 70), 1).save(folder / "a.png")
    context = Context(SUBJECT, never, "hash", progress=(progress := Recorder()))
    settings = ClassImages(count=1, folder=folder)
    make_class_images(context, settings, 64, folder.parent / "class", shapes={(64, 128): 1})
    assert any("enlarged 1.8 times, from 64x70 px" in notice for notice in progress.notices)


def test_a_picture_that_changes_while_it_is_read_is_not_taken_for_what_it_was(folder, monkeypatch):
    draw_subject((90, 90), 1).save(folder / "a.png")
    from limner.decoding import Decoders

    read = Decoders.read

    def read_and_change(self, path, rules):
        pixels = read(self, path, rules)
        draw_subject((90, 90), 2).save(folder / "a.png")
        return pixels

    monkeypatch.setattr(Decoders, "read", read_and_change)
    with pytest.raises(InputError, match=r"a\.png changed while it was read; run the same command again"):
        make(folder, 1)
