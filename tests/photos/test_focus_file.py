"""focus.toml: what it moves, and what is said of its faults."""

from __future__ import annotations

import pytest

from limner.errors import PhotoError
from limner.photos import read_manual_crops

NAMES = ["a.jpg", "b c.png"]


def write(folder, text):
    (folder / "focus.toml").write_text(text, encoding="utf-8")
    return folder


def test_without_the_file_there_are_no_wishes(tmp_path):
    assert read_manual_crops(tmp_path, NAMES) == {}


def test_a_wish_names_a_point_and_may_name_a_side(tmp_path):
    wishes = read_manual_crops(
        write(tmp_path, '["a.jpg"]\nat = [0.25, 1]\n["b c.png"]\nat = [0, 0.5]\nside = 0.5\n'), NAMES
    )
    assert wishes["a.jpg"].point((400, 200)) == (100, 200)
    assert wishes["a.jpg"].side is None
    assert wishes["b c.png"].point((400, 200)) == (0, 100)
    assert wishes["b c.png"].side == 0.5


@pytest.mark.parametrize(("text", "said"), [
    ("[a.jpg", "TOML"),
    ('["x.jpg"]\nat = [0.5, 0.5]', '"x.jpg" is not a photo'),
    ('["a.jpg"]\nat = [0.5, 1.5]', "1.5"),
    ('["a.jpg"]\nat = [0.5]', "at"),
    ('["a.jpg"]\nat = [nan, 0.5]', "nan"),
    ('["a.jpg"]\nside = 0.5', "at"),
    ('["a.jpg"]\nat = [0.5, 0.5]\nside = 0', "side"),
    ('["a.jpg"]\nat = [0.5, 0.5]\nzoom = 2', "zoom"),
    ('"a.jpg" = 3', "3"),
])  # fmt: skip
def test_a_fault_is_said_with_its_place_and_value(tmp_path, text, said):
    with pytest.raises(PhotoError) as caught:
        read_manual_crops(write(tmp_path, text), NAMES)
    assert "focus.toml" in str(caught.value)
    assert said in str(caught.value)


def test_all_faults_are_said_at_once(tmp_path):
    with pytest.raises(PhotoError) as caught:
        read_manual_crops(write(tmp_path, '["x.jpg"]\nat = [0.5, 0.5]\n["a.jpg"]\nat = [0.5, 2.0]'), NAMES)
    assert "x.jpg" in str(caught.value)
    assert "a.jpg" in str(caught.value)
