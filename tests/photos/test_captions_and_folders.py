"""Captions beside photos, and what kohya's folder names say."""

from __future__ import annotations

import json

import pytest

from limner.errors import PhotoError
from limner.photos import KohyaName, kohya_name, list_photos, named_subject


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def test_captions_come_from_text_files_and_from_json_lines(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "a.txt").write_text("\ufeffon a  sofa\n", encoding="utf-8")
    rows = [{"file_name": "a.jpg", "text": "overruled"}, {"file_name": "b.jpg", "text": "in the grass"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert [photo.caption for photo in list_photos(tmp_path).photos] == ["on a sofa", "in the grass", ""]


def test_text_that_is_no_caption_is_noted_and_not_used(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.txt").write_text("word " * 5000)
    photos = list_photos(tmp_path).photos
    assert [photo.caption for photo in photos] == ["", ""]
    assert ["UTF-8" in photos[0].notes[0], "too long" in photos[1].notes[0]] == [True, True]


@pytest.mark.parametrize("line", ["no json", "[]", '{"text": "a"}'])
def test_a_line_that_is_no_caption_is_named(tmp_path, line):
    put(tmp_path, "a.jpg")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg", "text": ""}\n' + line)
    with pytest.raises(PhotoError, match="line 2"):
        list_photos(tmp_path)


@pytest.mark.parametrize(("name", "meant"), [
    ("10_sks woman", KohyaName(10, "sks", "woman")),
    ("3_ohwx old man", KohyaName(3, "ohwx", "old man")),
    ("1_woman", KohyaName(1, "woman", "")),
    ("0_sks woman", None), ("sks woman", None), ("10_", None), ("10 sks", None),
])  # fmt: skip
def test_what_a_folder_name_says(tmp_path, name, meant):
    assert kohya_name(tmp_path / name) == meant


def test_a_folder_of_kohyas_folders(tmp_path):
    put(tmp_path / "10_sks woman", "b.jpg", "a.jpg")
    put(tmp_path / "2_sks woman", "a.jpg")
    put(tmp_path / "other", "a.jpg")
    (tmp_path / "2_sks woman" / "a.txt").write_text("by the sea")
    listing = list_photos(tmp_path)
    told = [(photo.name, photo.repeats, photo.caption) for photo in listing.photos]
    assert told == [
        ("10_sks woman/a.jpg", 10, ""),
        ("10_sks woman/b.jpg", 10, ""),
        ("2_sks woman/a.jpg", 2, "by the sea"),
    ]
    assert {(name.identifier, name.class_noun) for name in listing.kohya} == {("sks", "woman")}
    alone = list_photos(tmp_path / "10_sks woman")
    assert [(photo.name, photo.repeats) for photo in alone.photos] == [("a.jpg", 10), ("b.jpg", 10)]


def test_folder_names_that_disagree_name_nobody(tmp_path):
    put(tmp_path / "10_sks woman", "a.jpg")
    assert named_subject(tmp_path) == KohyaName(10, "sks", "woman")
    put(tmp_path / "2_sks woman", "a.jpg")
    assert named_subject(tmp_path).class_noun == "woman"
    put(tmp_path / "2_sks man", "a.jpg")
    assert named_subject(tmp_path) is None
    assert named_subject(tmp_path / "absent") is None
