"""prepare: a folder of anything to a whole photo set."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import MANIFEST, read_manifest
from limner.config import Prepare
from limner.errors import DiskError, PhotoError
from limner.records import CropBox
from limner.stages.prepare import prepare
from tests.drawn import draw_subject

SETTINGS = Prepare(size_px=64, focus="center")


class Heard:
    """Remembers the notices."""

    def __init__(self):
        self.lines = []

    def task(self, stage, total, **details):
        import contextlib

        return contextlib.nullcontext(lambda units: None)

    def notice(self, message):
        self.lines.append(message)


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


@pytest.mark.parametrize("focus", ["auto", "center"])
def test_a_folder_of_photos_becomes_a_photo_set(photo_folder, tmp_path, focus):
    photo_set = prepare(photo_folder, tmp_path / "out", Prepare(size_px=64, focus=focus))
    assert [photo.source for photo in photo_set.photos] == [f"photo-{index}.png" for index in range(5)]
    assert [path.name for path in photo_set.files] == [f"000{index}.png" for index in range(5)]
    assert photo_set.size_px == 64
    assert photo_set.refused == []
    for photo, path in zip(photo_set.photos, photo_set.files, strict=True):
        source = Image.open(photo_folder / photo.source).convert("RGB")
        box = photo.crop
        assert box.x1 - box.x0 == box.y1 - box.y0 == min(source.size)
        crop = source.crop((box.x0, box.y0, box.x1, box.y1)).resize((64, 64), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(crop))
        assert photo.focus
    with Image.open(tmp_path / "out" / "contact.jpg") as sheet:
        sheet.load()
        assert sheet.width > 400


def test_the_same_photos_give_the_same_bytes_and_a_second_run_writes_nothing(photo_folder, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    prepare(photo_folder, first, SETTINGS)
    prepare(photo_folder, again, SETTINGS)
    assert content_of(first) == content_of(again)
    times = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    heard = Heard()
    prepare(photo_folder, first, SETTINGS, progress=heard)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == times
    assert heard.lines == []


@pytest.mark.parametrize("change", ["a photo more", "another size", "a crop was damaged"])
def test_what_is_no_longer_current_is_made_again(photo_folder, tmp_path, change):
    out = tmp_path / "out"
    prepare(photo_folder, out, SETTINGS)
    settings = SETTINGS
    if change == "a photo more":
        draw_subject((150, 150), 9).save(photo_folder / "photo-9.png")
    elif change == "another size":
        settings = Prepare(size_px=72, focus="center")
    else:
        (out / "0001.png").write_bytes(b"")
    photo_set = prepare(photo_folder, out, settings)
    assert len(photo_set.photos) == (6 if change == "a photo more" else 5)
    assert {Image.open(path).size for path in photo_set.files} == {(settings.size_px,) * 2}


def test_bad_files_are_left_out_listed_and_never_stop_the_run(photo_folder, tmp_path):
    whole = (photo_folder / "photo-0.png").read_bytes()
    (photo_folder / "a-cut.png").write_bytes(whole[: len(whole) // 2])
    (photo_folder / "ünï 写真.jpg").write_text("no picture")
    (photo_folder / "raw.cr2").write_bytes(b"raw")
    (photo_folder / "photo-0.txt").write_text("a caption")
    Image.new("RGB", (200, 20)).save(photo_folder / "z-tiny.png")
    draw_subject((150, 150), 7).save(photo_folder / "z ünï 写真.png")
    heard = Heard()
    photo_set = prepare(photo_folder, tmp_path / "out", SETTINGS, progress=heard)
    assert [photo.source for photo in photo_set.photos][-1] == "z ünï 写真.png"
    assert len(photo_set.files) == 6
    assert [refusal.source for refusal in photo_set.refused] == [
        "a-cut.png",
        "raw.cr2",
        "z-tiny.png",
        "ünï 写真.jpg",
    ]
    assert all(refusal.reason for refusal in photo_set.refused)
    table = next(line for line in heard.lines if "4 are left out" in line)
    assert all(f"left out  {refusal.source}" in table for refusal in photo_set.refused)


def test_strictness_refuses_whether_or_not_the_set_is_current(photo_folder, tmp_path):
    (photo_folder / "bad.jpg").write_text("no picture")
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        prepare(photo_folder, tmp_path / "out", SETTINGS, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == [photo_folder.name]
    prepare(photo_folder, tmp_path / "out", SETTINGS)
    with pytest.raises(PhotoError, match=r"bad\.jpg"):
        prepare(photo_folder, tmp_path / "out", SETTINGS, strict=True)
    (photo_folder / "bad.jpg").unlink()
    prepare(photo_folder, tmp_path / "out", SETTINGS, strict=True)


def test_when_none_is_usable_every_reason_is_told_and_nothing_is_left_behind(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_text("no picture")
    (photos / "b.png").touch()
    with pytest.raises(PhotoError, match=r"a\.jpg: .*; b\.png: ") as caught:
        prepare(photos, tmp_path / "out", SETTINGS)
    assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with pytest.raises(PhotoError, match="there is no folder"):
        prepare(tmp_path / "absent", tmp_path / "out", SETTINGS)


def test_nothing_of_others_is_ever_replaced(photo_folder, tmp_path):
    for out in (photo_folder, tmp_path):
        with pytest.raises(DiskError, match="photos themselves"):
            prepare(photo_folder, out, SETTINGS)
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(DiskError, match=r"letter\.txt"):
        prepare(photo_folder, out, SETTINGS)
    assert (out / "letter.txt").read_text() == "dear"
    assert len(list(photo_folder.iterdir())) == 5


def test_a_photo_set_may_itself_be_prepared(photo_folder, tmp_path):
    first = prepare(photo_folder, tmp_path / "first", SETTINGS)
    second = prepare(first.folder, tmp_path / "second", SETTINGS)
    assert len(second.files) == 6  # the contact sheet is a picture like any other


def test_no_metadata_of_the_source_is_kept(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = Image.Exif()
    exif[0x010F], exif[274] = "SecretCamera", 6
    draw_subject((160, 140), 1).save(photos / "a.jpg", exif=exif, comment=b"SecretCamera")
    photo_set = prepare(photos, tmp_path / "out", SETTINGS)
    assert b"SecretCamera" not in photo_set.files[0].read_bytes()
    assert Image.open(photo_set.files[0]).info == {}
    assert photo_set.photos[0].crop.x1 <= 140  # upright: 140 wide, 160 high


def test_small_repeated_and_centred_photos_are_noted(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    draw_subject((160, 140), 1).save(photos / "a.png")
    shutil.copy(photos / "a.png", photos / "b.png")
    photo_set = prepare(photos, tmp_path / "out", Prepare(size_px=280, focus="center"))
    assert photo_set.photos[0].notes == ["enlarged 2.0 times, from 140 px"]
    assert "nearly the same as a.png" in photo_set.photos[1].notes
    assert photo_set.photos[0].crop == CropBox(x0=10, y0=0, x1=150, y1=140)
    assert photo_set.photos[0].focus == "center"


def test_the_key_tells_the_settings_and_the_photos(photo_folder, tmp_path):
    prepare(photo_folder, tmp_path / "a", SETTINGS)
    prepare(photo_folder, tmp_path / "b", Prepare(size_px=72, focus="center"))
    manifests = [read_manifest(tmp_path / name) for name in "ab"]
    assert manifests[0].key != manifests[1].key
    assert manifests[0].inputs == manifests[1].inputs


def test_held_out_photos_are_marked_whatever_they_are_called(photo_folder, tmp_path):
    settings = SETTINGS.model_copy(update={"held_out": 2})
    first = prepare(photo_folder, tmp_path / "first", settings)
    held_out = [photo for photo in first.photos if photo.held_out]
    assert len(held_out) == len(first.held_out_files) == 2
    assert all("held out of training" in photo.notes for photo in held_out)
    assert sorted(first.held_out_files + first.training_files) == first.files
    for index, source in enumerate(photo.source for photo in first.photos):
        (photo_folder / source).rename(photo_folder / f"z{9 - index}.png")
    second = prepare(photo_folder, tmp_path / "second", settings)
    assert {path.read_bytes() for path in first.held_out_files} == {path.read_bytes() for path in second.held_out_files}
    assert first.training_hash != prepare(photo_folder, tmp_path / "third", SETTINGS).training_hash


def test_few_photos_are_all_trained_on_and_all_held_out_is_refused(photo_folder, tmp_path):
    photo_set = prepare(photo_folder, tmp_path / "out", SETTINGS)
    assert photo_set.training_files == photo_set.files
    assert photo_set.training_hash == photo_set.content_hash
    with pytest.raises(PhotoError, match="none would be left to train on"):
        prepare(photo_folder, tmp_path / "none", SETTINGS.model_copy(update={"held_out": 5}))
    assert not (tmp_path / "none").exists()
