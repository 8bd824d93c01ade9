"""Which files count as photos."""

from __future__ import annotations

import pytest

from limner.decoding import heif_is_readable
from limner.errors import PhotoError
from limner.photos import list_photos


def put(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


def test_photos_come_in_name_order_and_strays_are_passed_over(tmp_path):
    put(tmp_path, "b.PNG", "a.jpg", "c.webp", "ünï 写真.jpeg", "a.txt", ".hidden.jpg", "Thumbs.db", "notes", "clip.mp4")
    (tmp_path / "folder.png").mkdir()
    listing = list_photos(tmp_path)
    assert [photo.name for photo in listing.photos] == ["a.jpg", "b.PNG", "c.webp", "ünï 写真.jpeg"]
    assert listing.refused == []


def test_pictures_of_other_kinds_are_refused_by_name(tmp_path):
    put(tmp_path, "a.png", "b.CR2", "c.svg")
    refused = list_photos(tmp_path).refused
    assert [refusal.source for refusal in refused] == ["b.CR2", "c.svg"]
    assert all("PNG or JPEG" in refusal.reason for refusal in refused)


@pytest.mark.skipif(heif_is_readable(), reason="pillow-heif is installed")
def test_heic_without_its_reader_names_the_extra(tmp_path):
    put(tmp_path, "a.heic")
    assert "limner[heif]" in list_photos(tmp_path).refused[0].reason


def test_no_folder_a_file_and_an_empty_folder_are_told_apart(tmp_path):
    with pytest.raises(PhotoError, match="there is no folder"):
        list_photos(tmp_path / "absent")
    put(tmp_path, "a.txt")
    with pytest.raises(PhotoError, match="is a file"):
        list_photos(tmp_path / "a.txt")
    with pytest.raises(PhotoError, match="holds no photo"):
        list_photos(tmp_path)
