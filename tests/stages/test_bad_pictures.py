"""Every row of the table of bad inputs in docs/photos.md: what lies in the folder, and what prepare makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from limner.artifacts import PhotoSet
from limner.config import Prepare
from limner.decoding import HEIF_EXTRA, heif_is_readable
from limner.stages.prepare import prepare
from tests.decoding.profiles import press
from tests.decoding.test_reading import corners_picture, stored_as
from tests.drawn import draw_subject

DOCUMENT = Path(__file__).parents[2] / "docs" / "photos.md"
SETTINGS = Prepare(size_px=128, focus="center")
SIDE = (200, 200)


@dataclass(frozen=True)
class Came:
    """What became of the folder that a case was written to, beside a sound photo `zz.png`."""

    photo_set: PhotoSet

    def refused(self, name: str) -> str:
        """Why a file is left out."""
        return next(refusal.reason for refusal in self.photo_set.refused if refusal.source == name)

    def record(self, name: str) -> dict[str, Any]:
        """What the manifest says of a photo that is used."""
        return next(photo for photo in self.photo_set.photos if photo.source == name)

    def pixels(self, name: str) -> np.ndarray:
        """Its crop (128, 128, 3)."""
        return np.asarray(Image.open(self.photo_set.folder / self.record(name).file)).astype(int)


CASES: dict[str, tuple[Callable[[Path], Any], Callable[[Came], Any]]] = {}


def case(row: str, write: Callable[[Path], Any]) -> Callable[[Callable[[Came], Any]], Callable[[Came], Any]]:
    """Name a row of the document's table, and what lies in the folder."""

    def add(check: Callable[[Came], Any]) -> Callable[[Came], Any]:
        CASES[row] = write, check
        return check

    return add


@case("CMYK JPEG", lambda folder: Image.new("CMYK", SIDE, (255, 0, 0, 0)).save(folder / "a.jpg", icc_profile=press()))
def cmyk(came: Came) -> None:
    assert not any("CMYK" in note or "profile" in note for note in came.record("a.jpg").notes)
    assert came.pixels("a.jpg")[64, 64, 0] > 60  # read without its profile full cyan has no red at all


def write_heic(folder: Path) -> None:
    if heif_is_readable():
        draw_subject(SIDE, 1).save(folder / "a.heic", quality=95)
    (folder / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(200))


@case("HEIC", write_heic)
def heic(came: Came) -> None:
    if heif_is_readable():
        assert np.abs(came.pixels("a.heic") - resized(draw_subject(SIDE, 1))).mean() < 6
        assert "damaged HEIC" in came.refused("b.heic")
    else:
        assert came.refused("b.heic") == HEIF_EXTRA


def resized(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)).astype(int)


def write_animation(folder: Path) -> None:
    draw_subject(SIDE, 1).save(folder / "a.gif", save_all=True, append_images=[draw_subject(SIDE, 2)])


@case("animated GIF", write_animation)
def animation(came: Came) -> None:
    assert "the first of 2 frames is used" in came.record("a.gif").notes
    assert np.abs(came.pixels("a.gif") - resized(draw_subject(SIDE, 1))).mean() < 12  # 256 colours


def write_deep_grey(folder: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 200 * 200).reshape(SIDE).astype(np.uint16)).save(folder / "a.png")


@case("16-bit grey PNG", write_deep_grey)
def deep_grey(came: Came) -> None:
    pixels = came.pixels("a.png")
    assert abs(pixels.mean() - 127.5) < 2
    assert (pixels == 255).mean() < 0.02


def write_alpha(folder: Path) -> None:
    picture = Image.new("RGBA", SIDE, (255, 0, 0, 0))
    picture.paste((0, 0, 200, 255), (0, 100, 200, 200))
    picture.save(folder / "a.png")


@case("transparent parts", write_alpha)
def alpha(came: Came) -> None:
    assert "transparent parts were put on white" in came.record("a.png").notes
    assert (came.pixels("a.png")[10, 64] == 255).all()  # not the red that hides there
    assert tuple(came.pixels("a.png")[120, 64]) == (0, 0, 200)


def write_turned(folder: Path) -> None:
    for orientation in (6, 7):
        exif = Image.Exif()
        exif[274], exif[271] = orientation, "Camera of Somebody"
        stored_as(corners_picture(), orientation).save(folder / f"{orientation}.jpg", exif=exif, quality=95)


@case("rotated or mirrored by EXIF", write_turned)
def turned(came: Came) -> None:
    picture = corners_picture()
    side, left = min(picture.size), (picture.width - min(picture.size)) // 2
    upright = resized(picture.crop((left, 0, left + side, side)))
    for name in ("6.jpg", "7.jpg"):
        assert np.abs(came.pixels(name) - upright).mean() < 8
        assert b"Somebody" not in (came.photo_set.folder / came.record(name).file).read_bytes()


@case("1x1 pixel", lambda folder: Image.new("RGB", (1, 1)).save(folder / "a.png"))
def one_pixel(came: Came) -> None:
    assert "1x1 pixels are too few; the short side must have 128" in came.refused("a.png")


def write_flawed(folder: Path) -> None:
    draw_subject((300, 90), 1).save(folder / "small.png")
    draw_subject(SIDE, 2).filter(ImageFilter.GaussianBlur(9)).save(folder / "soft.png")
    for name in ("twin.png", "zwin.png"):
        draw_subject(SIDE, 3).save(folder / name)


@case("small, blurred, doubled", write_flawed)
def flawed(came: Came) -> None:
    assert "too few" in came.refused("small.png")
    assert "blurred" in came.record("soft.png").warnings
    assert "nearly the same as twin.png" in came.record("zwin.png").warnings


def write_truncated(folder: Path) -> None:
    for name, kept in (("a.jpg", 0.9), ("b.jpg", 0.5)):
        draw_subject(SIDE, 1).save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: round(kept * len(content))])


@case("truncated", write_truncated)
def truncated(came: Came) -> None:
    assert all("cannot be decoded" in came.refused(name) for name in ("a.jpg", "b.jpg"))  # all are listed at once


def write_strays(folder: Path) -> None:
    draw_subject(SIDE, 1).save(folder / "a.png")
    (folder / ".DS_Store").write_bytes(bytes(100))
    (folder / "a.txt").write_text("on a shelf")
    (folder / "notes.md").write_text("of the owner")


@case("stray files and captions", write_strays)
def strays(came: Came) -> None:
    assert [photo.source for photo in came.photo_set.photos] == ["a.png", "zz.png"]
    assert came.photo_set.refused == []
    assert came.record("a.png").caption == "on a shelf"


def write_no_pictures(folder: Path) -> None:
    (folder / "a.jpg").write_text("<!DOCTYPE html><title>404</title>")
    (folder / "b.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    (folder / "c.png").write_bytes(b"")


@case("web page, pointer of Git LFS or nothing under a picture's name", write_no_pictures)
def no_pictures(came: Came) -> None:
    for name, said in (("a.jpg", "web page"), ("b.jpg", "git lfs pull"), ("c.png", "empty")):
        assert said in came.refused(name)


@case("a small file of 400 megapixels", lambda folder: Image.new("1", (20_000, 20_000)).save(folder / "a.png"))
def bomb(came: Came) -> None:
    assert "20000x20000 pixels are too many" in came.refused("a.png")


@case("names in any script", lambda folder: draw_subject(SIDE, 1).save(folder / "Фото 写真 é.jpg"))
def any_script(came: Came) -> None:
    assert came.record("Фото 写真 é.jpg").size == (200, 200)


@pytest.mark.parametrize("row", CASES)
def test_bad_input(tmp_path, row):
    write, check = CASES[row]
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder)
    draw_subject(SIDE, 99).save(folder / "zz.png")
    came = Came(prepare(folder, tmp_path / "out", SETTINGS))
    assert came.record("zz.png").warnings == []  # whatever lies beside it
    check(came)


def test_the_document_has_the_same_rows():
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Bad inputs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]
    assert [row for row in rows if not row.startswith("---")] == list(CASES)
