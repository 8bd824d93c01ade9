"""Drawn heads that head finders know for what they are."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE_PX = 400
CAT_GROUND, PERSON_GROUND = (120, 140, 120), (90, 110, 140)


def draw_cat_head() -> Image.Image:
    """A cat's head from the tips of its ears (row 40) to its chin (row 350), columns 60 to 340."""
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), CAT_GROUND)
    pen = ImageDraw.Draw(picture)
    fur, inside, dark = (170, 130, 90), (120, 80, 60), (60, 30, 30)
    pen.ellipse((60, 90, 340, 350), fill=fur)
    for mirror in (lambda x: x, lambda x: SIDE_PX - x):
        pen.polygon([(mirror(70), 170), (mirror(80), 40), (mirror(190), 110)], fill=fur)
        pen.polygon([(mirror(95), 140), (mirror(98), 75), (mirror(160), 115)], fill=inside)
        eye = mirror(140)
        pen.ellipse((eye - 34, 170, eye + 34, 225), fill=(30, 25, 20))
        pen.ellipse((eye - 27, 176, eye + 27, 219), fill=(200, 210, 90))
        pen.ellipse((eye - 10, 176, eye + 10, 219), fill=(10, 10, 10))
    pen.ellipse((150, 240, 250, 330), fill=(225, 215, 200))
    pen.polygon([(182, 245), (218, 245), (200, 266)], fill=(90, 40, 40))
    pen.line((200, 266, 200, 285), fill=dark, width=4)
    pen.arc((165, 262, 200, 300), 0, 180, fill=dark, width=4)
    pen.arc((200, 262, 235, 300), 0, 180, fill=dark, width=4)
    return picture.filter(ImageFilter.GaussianBlur(3))


def draw_person_head() -> Image.Image:
    """A person's head with hair, rows 25 to 385, columns 85 to 315."""
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), PERSON_GROUND)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((85, 25, 315, 385), fill=(60, 40, 30))
    pen.ellipse((105, 70, 295, 375), fill=(225, 180, 150))
    for eye in (155, 245):
        pen.ellipse((eye - 28, 165, eye + 28, 200), fill=(170, 120, 100))
        pen.ellipse((eye - 22, 172, eye + 22, 195), fill=(240, 240, 240))
        pen.ellipse((eye - 11, 172, eye + 11, 195), fill=(40, 30, 20))
        pen.arc((eye - 34, 138, eye + 34, 180), 200, 340, fill=(60, 40, 30), width=9)
    pen.polygon([(200, 190), (182, 255), (218, 255)], fill=(205, 155, 125))
    pen.line((182, 255, 218, 255), fill=(140, 90, 80), width=6)
    pen.ellipse((155, 285, 245, 318), fill=(170, 70, 70))
    pen.line((155, 301, 245, 301), fill=(110, 40, 40), width=4)
    return picture.filter(ImageFilter.GaussianBlur(3))


def placed(head: Image.Image, size: tuple[int, int], corner: tuple[int, int], side_px: int) -> np.ndarray:
    """A picture (H, W, 3) of `size` (width, height) with `head`, `side_px` wide, at `corner`."""
    picture = Image.new("RGB", size, head.getpixel((0, 0)))
    picture.paste(head.resize((side_px, side_px), Image.Resampling.LANCZOS), corner)
    return np.asarray(picture)
