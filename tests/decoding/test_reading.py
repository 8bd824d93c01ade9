"""Decoding: orientation, colour, depth, transparency, and everything that makes a photo unusable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from limner.decoding import ReadingRules, RefusedPhotoError, read_photo

RULES = ReadingRules(128)
CORNERS = {"top left": (250, 10, 10), "top right": (10, 250, 10), "bottom left": (10, 10, 250)}


def corners_picture() -> Image.Image:
    """160 wide, 140 high; three corners red, green, blue: no two orientations look alike."""
    pixels = np.full((140, 160, 3), 128, np.uint8)
    pixels[:60, :60], pixels[:60, -60:], pixels[-60:, :60] = CORNERS.values()
    return Image.fromarray(pixels)


def stored_as(picture: Image.Image, orientation: int) -> Image.Image:
    """What a camera stores so that a viewer who obeys the EXIF tag shows `picture`."""
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    tagged = picture.copy()
    tagged.getexif()[274] = undo
    return ImageOps.exif_transpose(tagged)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "options"), [
    ("jpg", {"quality": 95}), ("png", {}), ("webp", {"lossless": True}), ("avif", {"quality": 95}),
    ("tif", {}), ("tif", {"compression": "tiff_lzw"}),
])  # fmt: skip
def test_every_orientation_comes_out_upright(tmp_path, orientation, ending, options):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"photo.{ending}"
    stored_as(corners_picture(), orientation).save(path, exif=exif, **options)
    pixels = read_photo(path, RULES).pixels
    assert pixels.shape == (140, 160, 3)
    assert np.abs(pixels.astype(int) - np.asarray(corners_picture()).astype(int)).mean() < 6


def test_damaged_metadata_does_not_lose_the_picture(tmp_path):
    corners_picture().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert read_photo(tmp_path / "a.jpg", RULES).pixels.shape == (140, 160, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 150 * 150).reshape(150, 150).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = read_photo(tmp_path / "a.png", RULES).pixels
    assert np.abs(pixels[..., 0] - ramp / 257.0).max() <= 0.51


def test_floating_point_grey_is_stretched_and_says_so(tmp_path):
    values = np.linspace(-3, 5, 150 * 150, dtype=np.float32).reshape(150, 150)
    Image.fromarray(values).save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif", RULES)
    assert (photo.pixels.min(), photo.pixels.max()) == (0, 255)
    assert "stretched" in photo.notes[0]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (150, 150), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    photo = read_photo(tmp_path / "a.jpg", RULES)
    red, green, blue = photo.pixels[70, 70]
    assert red > 200
    assert max(green, blue) < 40
    assert "CMYK" in photo.notes[0]


def test_an_embedded_profile_is_followed(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    source = corners_picture()
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), profile, "RGB", "LAB")
    lab = ImageCms.applyTransform(source, to_lab)
    lab.save(tmp_path / "a.tif", icc_profile=profile.tobytes())
    pixels = read_photo(tmp_path / "a.tif", RULES).pixels
    assert np.abs(pixels.astype(int) - np.asarray(source).astype(int)).mean() < 4


def test_a_damaged_profile_is_noted_and_the_picture_kept(tmp_path):
    corners_picture().save(tmp_path / "a.png", icc_profile=b"not a profile")
    photo = read_photo(tmp_path / "a.png", RULES)
    assert np.array_equal(photo.pixels, np.asarray(corners_picture()))
    assert "profile" in photo.notes[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_laid_on_white(tmp_path, mode):
    picture = Image.new(mode, (150, 150), (0,) * len(mode))
    picture.paste((40,) * (len(mode) - 1) + (255,), (0, 0, 75, 150))
    picture.save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", RULES)
    assert (photo.pixels[:, :75] == 40).all()
    assert (photo.pixels[:, 75:] == 255).all()
    assert "white" in photo.notes[0]


def test_an_opaque_alpha_channel_is_not_mentioned(tmp_path):
    corners_picture().convert("RGBA").save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", RULES)
    assert np.array_equal(photo.pixels, np.asarray(corners_picture()))
    assert photo.notes == []


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_palette_grey_and_bilevel(tmp_path, mode):
    picture = corners_picture().convert(mode)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_photo(tmp_path / "a.png", RULES).pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_an_animated_picture_gives_its_first_frame(tmp_path, ending):
    frames = [Image.new("RGB", (150, 150), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], duration=50)
    photo = read_photo(tmp_path / f"a.{ending}", RULES)
    assert np.abs(photo.pixels[75, 75].astype(int) - (200, 0, 0)).max() < 8
    assert photo.notes == ["the first of 3 frames is used"]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "tif", "bmp", "gif"])
def test_a_truncated_file_is_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    whole = tmp_path / f"whole.{ending}"
    Image.fromarray(noise).save(whole)
    read_photo(whole, RULES)
    content = whole.read_bytes()
    cut_off = tmp_path / f"cut.{ending}"
    cut_off.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(RefusedPhotoError):
        read_photo(cut_off, RULES)


def test_other_reasons_to_refuse(tmp_path):
    def reason(name: str, size_px: int = 512) -> str:
        with pytest.raises(RefusedPhotoError) as caught:
            read_photo(tmp_path / name, ReadingRules(size_px))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    Image.new("RGB", (127, 900)).save(tmp_path / "thin.png")
    Image.new("1", (10_001, 5_000)).save(tmp_path / "vast.png")
    Image.new("1", (14_000, 14_000)).save(tmp_path / "bomb.png")
    with (tmp_path / "heavy.bmp").open("wb") as file:
        file.truncate(40_000_001)
    Image.new("RGB", (300, 300)).save(tmp_path / "script.eps")
    (tmp_path / "script.eps").rename(tmp_path / "script.png")
    assert "empty" in reason("empty.jpg")
    assert "not a picture" in reason("page.jpg")
    assert "No such file" in reason("gone.jpg")
    assert "127x900" in reason("thin.png")
    assert "too many" in reason("vast.png")
    assert reason("bomb.png")
    assert "MB" in reason("heavy.bmp")
    assert "not a picture" in reason("script.png")
    assert read_photo(tmp_path / "thin.png", ReadingRules(64)).pixels.shape == (900, 127, 3)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(2, 3000), value=st.integers(0, 255), keep=st.floats(0.1, 1.0))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, position, value, keep):
    folder = tmp_path_factory.mktemp("damaged")
    for ending in ("jpg", "png", "gif"):
        path = folder / f"a.{ending}"
        corners_picture().save(path)
        content = bytearray(path.read_bytes())
        content[position % len(content)] = value
        path.write_bytes(bytes(content[: max(1, int(len(content) * keep))]))
        try:
            pixels = read_photo(path, RULES).pixels
        except RefusedPhotoError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
