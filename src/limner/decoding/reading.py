"""From a file to upright 8-bit sRGB pixels, or to the reason why it cannot be used.

Every photo is decoded in full, so that a truncated file is found here and not while training. The
orientation that cameras store (EXIF tag 274) is applied; no metadata is kept.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from limner.decoding.colour import to_srgb
from limner.errors import PhotoError

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
READERS = ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "Tiff", "WebP")  # Pillow's, of these formats
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
HEIF_EXTRA = "HEIC needs pillow-heif: pip install 'limner[heif]'"
MOST_BYTES = 40_000_000
MOST_PIXELS = 50_000_000
SMALLEST_SIDE_PX = 128
# Pixels along a side for each pixel of the crop: reduced reading keeps at least this many. JPEG's own reduction loses
# less than means of pixels: at 1.4, a crop differs by 0.96 of 255 (root mean square) from one cut at full scale.
LEAST_SCALE, LEAST_JPEG_SCALE = 2, 1.4
VIEW_LONG_PX, VIEW_SHORT_PX = 480, 160  # a view has at least these, if the photo does
ORIENTATION_TAG = 274
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class RefusedPhotoError(PhotoError):
    """This one photo cannot be used; the message is the reason, without its name."""


@dataclass(frozen=True)
class ReadingRules:
    """Limits for reading a photo; larger ones are refused."""

    size_px: int  # of the crop that will be cut
    most_bytes: int = MOST_BYTES
    most_pixels: int = MOST_PIXELS
    least_side_px: int = SMALLEST_SIDE_PX  # or `size_px`, if that is less
    full_scale: bool = False  # read at full scale


@dataclass(frozen=True)
class DecodedPhoto:
    """An upright photo, possibly at reduced scale."""

    image: Image.Image  # mode RGB, in sRGB
    source_size: tuple[int, int]  # width and height in px before any reduction, upright
    notes: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> np.ndarray:
        """All of it (H, W, 3) uint8."""
        return np.asarray(self.image)

    def view(self) -> tuple[np.ndarray, int]:
        """A small copy (h, w, 3) uint8 , by means of pixels, and its reduction factor."""
        width, height = self.image.size
        scale = max(1, min(max(width, height) // VIEW_LONG_PX, min(width, height) // VIEW_SHORT_PX))
        return np.asarray(self.image.reduce(scale) if scale > 1 else self.image), scale

    def cut(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
        """The part `box` (x0, y0, x1, y1) px, resized (Lanczos) to `size` (width, height): (height, width, 3) uint8."""
        return np.asarray(self.image.crop(box).resize(size, Image.Resampling.LANCZOS))


@functools.cache
def heif_is_readable() -> bool:
    """Whether pillow-heif is installed; registers it with Pillow on the first call."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif  # pyright: ignore[reportMissingImports]

    pillow_heif.register_heif_opener()
    return True


def load_readers() -> None:
    """Load the readers of these formats, and none of Pillow's others."""
    heif_is_readable()
    for name in READERS:
        importlib.import_module(f"PIL.{name}ImagePlugin")


def read_photo(
    path: Path, rules: ReadingRules, before_decoding: Callable[[int], None] = lambda pixels: None
) -> DecodedPhoto:
    """Decode the photo at `path`; `before_decoding` is called with the number of pixels to be decoded, and may wait.

    A short side of twice `rules.size_px` is enough: larger photos are reduced by means of 2x2, 3x3, … pixels. JPEG is
    read with its decoder's reduction by 2, 4 or 8, which is faster, to no less than 1.4 times `size_px`. Raises
    RefusedPhotoError for a file with more bytes or pixels than the rules allow, one that cannot be decoded completely,
    and one whose short side is too short.
    """
    try:
        _refuse_by_file(path, rules)
        return _decoded(path, rules, before_decoding)
    except RefusedPhotoError:
        raise
    except UnidentifiedImageError:
        raise RefusedPhotoError(_what_it_is(path)) from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and others
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise RefusedPhotoError(f"cannot be decoded ({reason})") from error


def _refuse_by_file(path: Path, rules: ReadingRules) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RefusedPhotoError("is not a regular file")
    if status.st_size == 0:
        raise RefusedPhotoError("the file is empty")
    if status.st_size > rules.most_bytes:
        most = rules.most_bytes / 1e6
        raise RefusedPhotoError(f"the file has {status.st_size / 1e6:.0f} MB; at most {most:.0f} MB are read")


def _decoded(path: Path, rules: ReadingRules, before_decoding: Callable[[int], None]) -> DecodedPhoto:
    formats = (*FORMATS, "HEIF") if heif_is_readable() else FORMATS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # everything that Pillow warns about is refused here or harmless
        # From an open file: given a path, Pillow maps some TIFF files' pixels, and rotates those wrongly.
        with path.open("rb") as file, Image.open(file, formats=formats) as image:
            _refuse_by_size(image.size, rules)
            notes, size = _frame_notes(image), image.size
            if image.format in ("JPEG", "MPO"):
                side_px = _least_side_px(rules, size, LEAST_JPEG_SCALE)
                image.draft(image.mode, (side_px, side_px))
            drafted = image.size
            before_decoding(drafted[0] * drafted[1])
            image.load()
            if image.size != drafted:  # some formats give their size only then
                size = image.size
                _refuse_by_size(size, rules)
            orientation = _orientation(image)
            factor = max(1, min(image.size) // _least_side_px(rules, size, LEAST_SCALE))
            upright, colour_notes = to_srgb(image, factor)
    if orientation in UPRIGHT:
        upright = upright.transpose(UPRIGHT[orientation])
        size = size if orientation < 5 else (size[1], size[0])
    return DecodedPhoto(upright, size, notes + colour_notes)


def _least_side_px(rules: ReadingRules, size: tuple[int, int], scale: float) -> int:
    """The short side to which a picture of `size` px may be reduced, with `scale` px for each px of the crop."""
    return min(size) if rules.full_scale else math.ceil(scale * rules.size_px)


def _refuse_by_size(size: tuple[int, int], rules: ReadingRules) -> None:
    width, height = size
    if width * height > rules.most_pixels:
        raise RefusedPhotoError(
            f"{width}x{height} pixels are too many; at most {rules.most_pixels / 1e6:g} megapixels are read"
        )
    least = min(rules.least_side_px, rules.size_px)
    if min(width, height) < least:
        raise RefusedPhotoError(f"{width}x{height} pixels are too few; the short side must have {least}")


def _frame_notes(image: Image.Image) -> list[str]:
    if image.format == "MPO":  # a phone's photo with a preview or depth map behind it
        return []
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return []
    what = {"TIFF": "pages", "HEIF": "pictures"}.get(image.format or "", "frames")
    return [f"the first of {frames} {what} is used"]


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata is no reason to refuse an intact picture
        return 1


def _what_it_is(path: Path) -> str:
    """Why a file that no decoder knows is refused, and what it seems to be, if that helps."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
        return HEIF_EXTRA if not heif_is_readable() else "the content is a damaged HEIC picture"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "the content is not a picture but a web page, as after a failed download"
    if text.startswith(b"version https://git-lfs"):
        return "the content is not a picture but a pointer of Git LFS; run git lfs pull"
    return "the content is not a picture of a kind that is read"
