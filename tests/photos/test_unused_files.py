"""Whatever a user puts beside photos is used or named: captions of every usual form, rows, folders, other files."""

from __future__ import annotations

import json
import os
import sys
import unicodedata

import pytest

from limner.errors import PhotoError
from limner.escaping import printable, shown_name
from limner.photos import checked_table, list_photos

NFD, NFC = (unicodedata.normalize(form, "é") for form in ("NFD", "NFC"))


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def captions_of(folder):
    return {photo.name: photo.caption for photo in list_photos(folder).photos if photo.caption}


@pytest.mark.parametrize(("photo", "caption"), [
    ("a.jpg", "a.txt"), ("a.jpg", "a.TXT"), ("a.jpg", "a.caption"), ("a.JPG", "A.Caption"), ("a.jpg", "a.jpg.txt"),
    (f"{NFC}.jpg", f"{NFD}.txt"), (f"{NFD}.jpg", f"{NFC.upper()}.caption"), ("a.b.jpg", "a.b.txt"),
])  # fmt: skip
def test_a_caption_is_found_by_the_name_in_any_usual_form(tmp_path, photo, caption):
    put(tmp_path, photo)
    (tmp_path / caption).write_text("on a sofa")
    assert captions_of(tmp_path) == {photo: "on a sofa"}
    assert list_photos(tmp_path).unused == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("file", ["a.txt", "metadata.jsonl", "metadata.csv"])
def test_every_encoding_that_says_what_it_is(tmp_path, encoding, file):
    put(tmp_path, "a.jpg")
    texts = {
        "a.txt": "на диване\n",
        "metadata.jsonl": json.dumps({"file_name": "A.JPG", "text": "на диване"}, ensure_ascii=False),
        "metadata.csv": 'file_name,text\r\nA.JPG,"на\n диване"\r\n',
    }
    (tmp_path / file).write_text(texts[file], encoding=encoding, newline="")
    assert captions_of(tmp_path) == {"a.jpg": "на диване"}


def test_a_photo_has_one_caption_and_the_others_are_named(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "a.caption").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b.txt").write_text(" \n")
    (tmp_path / "c.txt").write_bytes("a".encode("utf-16-le"))  # without a mark
    photos = list_photos(tmp_path).photos
    assert [photo.caption for photo in photos] == ["first", "", ""]
    assert photos[0].notes == ["a.caption is not used: a.txt is its caption"]
    assert photos[1].notes == ["b.txt is empty and is not used as its caption"]
    assert photos[2].notes == ["c.txt is not text and is not used as its caption"]


def test_an_exact_name_has_priority_and_a_doubtful_one_is_nobodys(tmp_path):
    put(tmp_path, "a.jpg", "A.jpg", "b.jpg", "B.png")
    (tmp_path / "a.txt").write_text("of a")
    (tmp_path / "B.TXT").write_text("of B")
    assert captions_of(tmp_path) == {"a.jpg": "of a", "B.png": "of B"}
    put(tmp_path, "cC.jpg", "Cc.jpg")
    (tmp_path / "cc.txt").write_text("of whom")
    assert "cc.txt" in [other.source for other in list_photos(tmp_path).unused]
    assert "of whom" not in captions_of(tmp_path).values()


def test_what_matches_nothing_is_named_once(tmp_path):
    put(tmp_path, "a.jpg", "Thumbs.db", ".hidden", "clip.mp4", "notes.txt", "focus.toml")
    put(tmp_path / "more", "1.jpg", "2.png", "b.txt")
    put(tmp_path / "3_sks cat" / "deep", "1.jpg")
    rows = [{"file_name": "gone.jpg", "text": "x"}, {"file_name": "a.jpg"}, {"file_name": "./A.jpg", "text": "asleep"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listing = list_photos(tmp_path)
    reasons = {other.source: other.reason for other in listing.unused}
    assert len(reasons) == len(listing.unused) - 1  # two kinds of rows
    assert {*reasons} == {"clip.mp4", "notes.txt", "more/", "3_sks cat/deep/", "metadata.jsonl"}
    assert "a folder with 2 pictures" in reasons["more/"]
    assert "no photo has its name" in reasons["notes.txt"]
    told = [other.reason for other in listing.unused if other.source == "metadata.jsonl"]
    assert told == ["1 of its rows match no photo: gone.jpg", "1 of its rows have no text: a.jpg"]
    assert captions_of(tmp_path) == {"a.jpg": "asleep"}
    table = checked_table([], [], listing.unused)
    assert all(table.count(f"  {source} ") >= 1 for source in reasons)


def test_of_many_unused_files_the_rest_is_counted(tmp_path):
    put(tmp_path, "a.jpg", *(f"{index:03d}.npz" for index in range(50)))
    table = checked_table([], [], list_photos(tmp_path).unused)
    assert table.count(".npz") == 12
    assert "38 more" in table


def test_a_row_names_a_photo_in_an_inner_folder(tmp_path):
    put(tmp_path / "3_sks cat", "a.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,caption\n3_sks cat\\a.jpg,asleep\n")
    assert captions_of(tmp_path) == {"3_sks cat/a.jpg": "asleep"}


def test_a_table_without_its_column_is_refused(tmp_path):
    put(tmp_path, "a.jpg")
    (tmp_path / "metadata.csv").write_text("name;text\na.jpg;asleep\n")
    with pytest.raises(PhotoError, match="no column file_name"):
        list_photos(tmp_path)


def test_a_folder_whose_photos_lie_deeper_is_told_where_they_are(tmp_path):
    put(tmp_path / "more", "1.jpg")
    with pytest.raises(PhotoError, match=r"holds no photo \(more/: a folder with 1 pictures"):
        list_photos(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_are_shown_escaped_and_stay_different(tmp_path):
    names = [b"a\xff\xfe.png", b"b\x1b[2J.png", b"a\\xff\\xfe.png"]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    shown = {photo.name for photo in list_photos(tmp_path).photos}
    assert shown == {r"a\xff\xfe.png", r"b\x1b[2J.png", r"a\\xff\\xfe.png"}
    assert [os.fsencode(photo.path.name) for photo in list_photos(tmp_path).photos if photo.name == r"a\xff\xfe.png"]


def test_what_a_terminal_would_obey_is_printed_as_text():
    assert printable("a\x1b[31m\u202egpj.\udcff\n\tb") == "a\\x1b[31m\\u202egpj.\\xff\n\tb"
    assert printable("ünï 写真 \U0001f431") == "ünï 写真 \U0001f431"
    assert shown_name("a\nb") == r"a\x0ab"
