"""From a file to upright 8-bit sRGB pixels, or to the reason why it cannot be used.

Every photo is decoded in full, so that a truncated file is found here and not while training. The
orientation that cameras store (EXIF tag 274) is applied; of the metadata nothing is kept.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from limner.errors import PhotoError
from limner.photos.colour import to_srgb
from limner.photos.listing import heif_is_readable

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
MOST_BYTES = 40_000_000
MOST_PIXELS = 50_000_000
SMALLEST_SIDE_PX = 128
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
class Photo:
    """An upright photo."""

    pixels: np.ndarray  # (H, W, 3) uint8 sRGB
    notes: list[str] = field(default_factory=list)


def read_photo(path: Path, size_px: int) -> Photo:
    """Decode the photo at `path`, which is to give a crop of `size_px`.

    Raises RefusedPhotoError for a file over 40 MB or 50 megapixels, one that cannot be decoded whole, and a
    short side under 128 px (or under `size_px` where that is less).
    """
    try:
        length = path.stat().st_size
        if length == 0:
            raise RefusedPhotoError("the file is empty")
        if length > MOST_BYTES:
            raise RefusedPhotoError(f"the file has {length / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB are read")
        return _decoded(path, size_px)
    except RefusedPhotoError:
        raise
    except UnidentifiedImageError:
        raise RefusedPhotoError("the content is not a picture of a kind that is read") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and others
        told = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise RefusedPhotoError(f"cannot be decoded ({told})") from error


def _decoded(path: Path, size_px: int) -> Photo:
    formats = (*FORMATS, "HEIF") if heif_is_readable() else FORMATS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns of is either refused here or harmless
        with Image.open(path, formats=formats) as image:
            _refuse_by_size(image.size, size_px)
            notes = _frame_notes(image)
            image.load()
            _refuse_by_size(image.size, size_px)
            orientation = _orientation(image)
            upright, colour_notes = to_srgb(image)
    if orientation in UPRIGHT:
        upright = upright.transpose(UPRIGHT[orientation])
    return Photo(np.array(upright), notes + colour_notes)


def _refuse_by_size(size: tuple[int, int], size_px: int) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise RefusedPhotoError(
            f"{width}x{height} pixels are too many; at most {MOST_PIXELS / 1e6:.0f} megapixels are read"
        )
    least = min(SMALLEST_SIDE_PX, size_px)
    if min(width, height) < least:
        raise RefusedPhotoError(f"{width}x{height} pixels are too few; the short side must have {least}")


def _frame_notes(image: Image.Image) -> list[str]:
    if image.format == "MPO":  # a phone's photo with a preview or depth map behind it
        return []
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return []
    what = "pages" if image.format == "TIFF" else "frames"
    return [f"the first of {frames} {what} is used"]


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata is no reason to lose a sound picture
        return 1
