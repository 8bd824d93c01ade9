"""Decoding of untrusted pictures: within limits, in separate processes, to upright 8-bit sRGB."""

from limner.decoding.pool import Decoders, HeldPhoto
from limner.decoding.reading import (
    HEIF_EXTRA,
    MOST_BYTES,
    MOST_PIXELS,
    SMALLEST_SIDE_PX,
    DecodedPhoto,
    ReadingRules,
    RefusedPhotoError,
    heif_is_readable,
    read_photo,
)

__all__ = [
    "HEIF_EXTRA",
    "MOST_BYTES",
    "MOST_PIXELS",
    "SMALLEST_SIDE_PX",
    "DecodedPhoto",
    "Decoders",
    "HeldPhoto",
    "ReadingRules",
    "RefusedPhotoError",
    "heif_is_readable",
    "read_photo",
]
