"""Pictures as phones, presses and programs write them: wide gamut, CMYK, HEIC, and more pixels than are needed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from limner.decoding import Decoders, ReadingRules, RefusedPhotoError, heif_is_readable, read_photo
from tests.decoding.profiles import display_p3, press
from tests.decoding.test_reading import corners_picture, stored_as
from tests.drawn import draw_subject

RULES = ReadingRules(64)


def through(image, profile):
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB", renderingIntent=1)


@pytest.mark.parametrize(("mode", "profile", "colour"), [
    ("RGB", display_p3(), (60, 180, 60)), ("CMYK", press(), (255, 0, 0, 0)), ("CMYK", press(), (40, 200, 90, 10)),
])  # fmt: skip
def test_the_embedded_profile_decides_the_colours(tmp_path, mode, profile, colour):
    picture = Image.new(mode, (150, 150), colour)
    picture.save(tmp_path / "a.tif", icc_profile=profile)
    got = read_photo(tmp_path / "a.tif", RULES).pixels[70, 70].astype(int)
    wanted = np.asarray(through(picture, profile))[70, 70].astype(int)
    assert np.abs(got - wanted).max() <= 6  # black point compensation
    assert np.abs(got - np.asarray(picture.convert("RGB"))[70, 70]).max() >= 10  # what ignoring the profile gives


def test_a_cmyk_jpeg_goes_through_its_profile_too(tmp_path):
    Image.new("CMYK", (150, 150), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=95, icc_profile=press())
    photo = read_photo(tmp_path / "a.jpg", RULES)
    assert photo.notes == []
    assert photo.pixels[70, 70, 0] > 60  # naively full cyan has no red at all


@pytest.mark.skipif(not heif_is_readable(), reason="pillow-heif is not installed")
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_heic_is_read_and_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    stored = stored_as(corners_picture(), orientation)
    stored.info["exif"] = exif.tobytes()  # from here the writer takes the turn that the file itself states
    stored.save(tmp_path / "a.heic", quality=95)
    pixels = read_photo(tmp_path / "a.heic", RULES).pixels
    assert pixels.shape == (140, 160, 3)
    assert np.abs(pixels.astype(int) - np.asarray(corners_picture())).mean() < 6
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")  # as phones sometimes call them
    assert read_photo(tmp_path / "a.jpg", RULES).pixels.shape == (140, 160, 3)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_large_photos_are_read_smaller_and_show_the_same(tmp_path, ending, mode):
    picture = draw_subject((600, 420), 5).convert(mode)
    exif = Image.Exif()
    exif[274] = 6
    picture.save(tmp_path / f"a.{ending}", exif=exif)
    photo = read_photo(tmp_path / f"a.{ending}", RULES)
    whole = read_photo(tmp_path / f"a.{ending}", ReadingRules(64, full_scale=True))
    assert photo.source_size == whole.source_size == (420, 600)
    assert whole.pixels.shape == (600, 420, 3)
    assert (1.4 if ending == "jpg" else 2) * RULES.size_px <= min(photo.pixels.shape[:2]) < 420
    small = [np.asarray(Image.fromarray(one.pixels).resize((28, 40), Image.Resampling.BOX)) for one in (photo, whole)]
    assert np.abs(small[0].astype(int) - small[1]).mean() < (4 if ending == "jpg" else 2)  # coarser colours


@pytest.mark.parametrize("mode", ["P", "1", "I;16", "LA", "RGBA"])
def test_other_modes_are_read_smaller_too(tmp_path, mode):
    if mode == "I;16":
        picture = Image.fromarray(np.full((420, 600), 30_000, np.uint16))
    else:
        picture = draw_subject((600, 420), 5).convert(mode)
    picture.save(tmp_path / "a.png")
    photo, whole = (read_photo(tmp_path / "a.png", rules) for rules in (RULES, ReadingRules(64, full_scale=True)))
    assert photo.pixels.shape == (140, 200, 3)
    assert abs(float(photo.pixels.mean()) - float(whole.pixels.mean())) < 1
    assert photo.notes == whole.notes


def test_what_is_no_picture_is_told_for_what_it_is(tmp_path):
    (tmp_path / "a.jpg").write_text("<!DOCTYPE html><title>404</title>")
    (tmp_path / "b.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    for name, words in (("a.jpg", "web page"), ("b.jpg", "Git LFS")):
        with pytest.raises(RefusedPhotoError, match=words):
            read_photo(tmp_path / name, RULES)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    too_many = pytest.raises(RefusedPhotoError, match="20000x20000 pixels are too many")
    with Decoders(1) as decoders, too_many, decoders.hold(tmp_path / "a.png", RULES):
        pass
