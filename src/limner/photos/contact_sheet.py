"""One picture that shows how every photo was cropped."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from limner.photos.cropping import CropPlan

THUMBNAIL_PX, CROP_PX, GAP_PX, TEXT_PX, LINE_PX = 220, 160, 10, 13, 16
CAPTION_LINES, CAPTION_LETTERS = 3, 60
CELL_PX = (THUMBNAIL_PX + CROP_PX + 3 * GAP_PX, THUMBNAIL_PX + CAPTION_LINES * LINE_PX + 2 * GAP_PX)
PAPER, INK, FAINT, FRAME = (250, 250, 250), (30, 30, 30), (150, 150, 150), (230, 60, 40)


@dataclass(frozen=True)
class SheetEntry:
    """What the sheet shows of one photo: small pictures already, so that many photos need little memory."""

    caption: str
    thumbnail: Image.Image | None = None
    crop: Image.Image | None = None
    refused: bool = False


def used_entry(caption: str, view: np.ndarray, view_scale: float, plan: CropPlan, crop: np.ndarray) -> SheetEntry:
    """An entry for a photo with its crop box drawn, and its crop (H, W, 3) uint8.

    The photo is shown by its `view` (h, w, 3) uint8, one px of which is `view_scale` px of the plan.
    """
    thumbnail, scale = _shrunk(view, THUMBNAIL_PX)
    box = [scale / view_scale * edge for edge in plan.box]
    corner = (min(box[2], thumbnail.width) - 1, min(box[3], thumbnail.height) - 1)
    ImageDraw.Draw(thumbnail).rectangle((box[0], box[1], *corner), outline=FRAME, width=2)
    return SheetEntry(caption, thumbnail, _shrunk(crop, CROP_PX)[0])


def contact_sheet(entries: Sequence[SheetEntry]) -> bytes:
    """A JPEG with a cell for each entry: the original with its crop box, the crop at its side, the caption below."""
    columns = max(1, min(len(entries), round(math.sqrt(len(entries) * CELL_PX[1] / CELL_PX[0] * 1.3))))
    rows = math.ceil(len(entries) / columns)
    sheet = Image.new("RGB", (columns * CELL_PX[0], rows * CELL_PX[1]), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, entry in enumerate(entries):
        row, column = divmod(index, columns)
        _draw_cell(sheet, pen, (column * CELL_PX[0] + GAP_PX, row * CELL_PX[1] + GAP_PX), entry)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _draw_cell(sheet: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], entry: SheetEntry) -> None:
    x, y = corner
    if entry.thumbnail is not None:
        left, top = ((THUMBNAIL_PX - side) // 2 for side in entry.thumbnail.size)
        sheet.paste(entry.thumbnail, (x + left, y + top))
    else:
        pen.rectangle((x, y, x + THUMBNAIL_PX - 1, y + THUMBNAIL_PX - 1), fill=(225, 225, 225))
        pen.line((x, y, x + THUMBNAIL_PX - 1, y + THUMBNAIL_PX - 1), fill=FAINT)
    if entry.crop is not None:
        left, top = (CROP_PX - entry.crop.width) // 2, (THUMBNAIL_PX - entry.crop.height) // 2
        sheet.paste(entry.crop, (x + THUMBNAIL_PX + GAP_PX + left, y + top))
    lines = textwrap.wrap(_writable(entry.caption), CAPTION_LETTERS, max_lines=CAPTION_LINES, placeholder=" …")
    font = ImageFont.load_default(TEXT_PX)
    for number, line in enumerate(lines):
        position = (x, y + THUMBNAIL_PX + GAP_PX // 2 + number * LINE_PX)
        pen.text(position, line, fill=FAINT if entry.refused else INK, font=font)


def _writable(text: str) -> str:
    """Pillow's built-in font, which it uses without FreeType, has ASCII only."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if features.check("freetype2") else clean.encode("ascii", "replace").decode()


def _shrunk(pixels: np.ndarray, long_side_px: int) -> tuple[Image.Image, float]:
    height, width = pixels.shape[:2]
    scale = long_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC), scale
