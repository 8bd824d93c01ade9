"""prepare among odd names, damaged manifests and folders that change under it."""

from __future__ import annotations

import json
import os
import sys

import pytest

from limner.artifacts import MANIFEST
from limner.config import Prepare
from limner.errors import DiskError, PhotoError
from limner.progress import Progress
from limner.stages.prepare import prepare
from tests.drawn import draw_subject

SETTINGS = Prepare(size_px=64, focus="center")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_photos_of_any_name_are_read_and_can_be_written_down(photo_folder, tmp_path):
    content = (photo_folder / "photo-0.png").read_bytes()
    for number, name in enumerate([b"bad\xff\xfe.png", b"red\x1b[31m.png", b"CON.png", b"PHOTO-0.png"]):
        draw_subject((150, 150), 20 + number).save(photo_folder / "drawn.png")
        (photo_folder / "drawn.png").rename(photo_folder / os.fsdecode(name))
    (photo_folder / os.fsdecode(b"cut\xff.png")).write_bytes(content[:200])
    events = []
    photo_set = prepare(photo_folder, tmp_path / "out", SETTINGS, progress=Progress(events.append))
    sources = [photo.source for photo in photo_set.photos]
    assert {r"bad\xff\xfe.png", r"red\x1b[31m.png", "CON.png", "PHOTO-0.png", "photo-0.png"} < {*sources}
    assert [refusal.source for refusal in photo_set.refused] == [r"cut\xff.png"]
    log = "".join(event.model_dump_json() for event in events)
    assert r"cut\\xff.png" in log
    (tmp_path / "out" / MANIFEST).read_text(encoding="utf-8").encode("utf-8")


def test_what_nothing_uses_is_noticed_and_recorded(photo_folder, tmp_path):
    (photo_folder / "stranger.caption").write_text("x")
    events = []
    photo_set = prepare(photo_folder, tmp_path / "out", SETTINGS, progress=Progress(events.append))
    notices = [event.message for event in events if event.type == "notice"]
    assert sum(notice.count("stranger.caption") for notice in notices) == 1
    assert [other.source for other in photo_set.record.unused] == ["stranger.caption"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"stage": "prepare"}', b"\xff\xfe"])
def test_a_damaged_manifest_among_limners_own_crops_is_made_again(photo_folder, tmp_path, content):
    out, events = tmp_path / "out", []
    whole = prepare(photo_folder, out, SETTINGS).content_hash
    (out / MANIFEST).write_bytes(content)
    again = prepare(photo_folder, out, SETTINGS, progress=Progress(events.append))
    assert again.content_hash == whole
    assert any("is damaged: the photo set is made again" in getattr(event, "message", "") for event in events)


@pytest.mark.parametrize("file", ["mine.png", "0009.png", "0000.jpg", "notes.txt", "more/0000.png"])
def test_a_users_file_beside_a_damaged_manifest_is_never_replaced(photo_folder, tmp_path, file):
    out = tmp_path / "out"
    prepare(photo_folder, out, SETTINGS)
    (out / MANIFEST).write_bytes(b"")
    (out / file).parent.mkdir(exist_ok=True)
    (out / file).write_bytes(b"mine")
    with pytest.raises(DiskError, match="would be lost"):
        prepare(photo_folder, out, SETTINGS)
    assert (out / file).read_bytes() == b"mine"


def test_numbered_pictures_of_a_user_are_no_photo_set(photo_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    draw_subject((80, 80), 1).save(out / "0000.png")
    with pytest.raises(DiskError, match=r"0000\.png, which would be lost"):
        prepare(photo_folder, out, SETTINGS)
    (out / MANIFEST).write_text(json.dumps({}))
    with pytest.raises(DiskError, match=r"0000\.png, which would be lost"):
        prepare(photo_folder, out, SETTINGS)


@pytest.mark.parametrize(("what", "name"), [("added", "z.png"), ("removed", "photo-4.png"), ("changed", "photo-4.png")])
def test_a_folder_that_changes_while_it_is_read_is_told_and_nothing_is_written(photo_folder, tmp_path, what, name):
    changed = []

    def change(event):
        if event.type != "progress" or changed:
            return
        changed.append(True)
        if what == "removed":
            (photo_folder / name).unlink()
        else:
            draw_subject((140, 150), 30).save(photo_folder / name)

    with pytest.raises(PhotoError, match=f"{name} was {what} .* run the same command again"):
        prepare(photo_folder, tmp_path / "out", SETTINGS, progress=Progress(change))
    assert not (tmp_path / "out").exists()
    assert prepare(photo_folder, tmp_path / "out", SETTINGS).photos
