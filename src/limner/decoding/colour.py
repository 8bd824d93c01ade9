"""From any pixel format to 8-bit sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

BACKGROUND = (255, 255, 255)
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
DEEP_GREY = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def to_srgb(image: Image.Image, factor: int = 1) -> tuple[Image.Image, list[str]]:
    """Convert a loaded picture to mode RGB in sRGB, `factor` times smaller; returns it and notes for the user.

    An embedded ICC profile is applied (relative colorimetric, black point compensated). Transparent parts are put on
    white. Grey deeper than 8 bits is scaled, not clipped. A picture is reduced first, by means of its
    pixels, so that the rest needs little memory.
    """
    notes: list[str] = []
    profile = image.info.get("icc_profile")
    see_through = image.mode in WITH_ALPHA or "transparency" in image.info
    if factor > 1:
        image = _smaller(image, factor, see_through)
    if image.mode in DEEP_GREY:
        image = _shallow_grey(image, notes)
    alpha = None
    if see_through:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        image = image.convert("L") if image.mode in ("LA", "La") else rgba.convert("RGB")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image = _through_profile(image, profile, notes)
    if alpha is not None and alpha.getextrema()[0] != 255:
        background = Image.new("RGB", image.size, BACKGROUND)
        background.paste(image, mask=alpha)
        image = background
        notes.append("transparent parts were put on white")
    return image, notes


def _smaller(image: Image.Image, factor: int, see_through: bool) -> Image.Image:
    if image.mode in ("P", "PA") or (see_through and image.mode not in ("LA", "La")):
        image = image if image.mode == "RGBA" else image.convert("RGBA" if see_through else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode.startswith("I;16"):
        image = image.convert("I")
    return image.reduce(factor)


def _through_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profile:
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" in ImageCms.getProfileDescription(embedded) and image.mode == "RGB":
                return image
            if image.mode == "L" and profile[16:20] == b"RGB ":
                image = image.convert("RGB")  # as some programs write grey photos
            converted = ImageCms.profileToProfile(
                image,
                embedded,
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("its colour profile cannot be used; read without it")
    elif image.mode == "CMYK":
        notes.append("CMYK without a colour profile; colours are approximate")
    return image.convert("RGB")


def _shallow_grey(image: Image.Image, notes: list[str]) -> Image.Image:
    """Scale 16-bit grey by 1/257; 32-bit and floating-point grey, which have no defined white, by their range."""
    values = np.asarray(image).astype(np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    else:
        notes.append(f"grey values from {low:g} to {high:g} were stretched to 0 to 255")
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
