"""Crops of one photo: it is decoded and examined once, and cropped around every head that may be the subject's.

Which head recurs is known only after all photos were examined, and by then none of them is in memory any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from limner.artifacts import Size
from limner.decoding import HeldPhoto
from limner.embeddings import EfficientNetLite0
from limner.photos.buckets import nearest_size
from limner.photos.checks import flaws
from limner.photos.contact_sheet import SheetEntry, used_entry
from limner.photos.cropping import Box, CropPlan, plan_crop
from limner.photos.focus import Focus, FocusMode, Sight, possible_focuses, see
from limner.photos.focus_file import BY_HAND, ManualCrop
from limner.photos.judging import Look, look_at
from limner.photos.twins import small_copy


@dataclass(frozen=True)
class CropRequest:
    """How all photos of a set are examined and cropped, and the folder that crops are written to."""

    folder: Path
    sizes: Sequence[Size]  # that crops may have; each photo gets the one nearest to its shape
    focus: FocusMode
    zoom: Literal["picture", "head"]
    embedder: EfficientNetLite0 | None  # if crops are to be compared with each other


@dataclass(frozen=True)
class WrittenCrop:
    """A crop in its file, and the values needed later."""

    file: Path
    pixels: np.ndarray  # (H, W, 3) uint8; dropped when the photo is done
    flaws: list[str]
    small: np.ndarray  # see twins.small_copy
    embedding: np.ndarray | None  # (1280,) of unit norm


@dataclass(frozen=True)
class Candidate:
    """One way to crop a photo."""

    focus: Focus
    plan: CropPlan
    look: Look
    entry: SheetEntry
    crop: WrittenCrop


@dataclass(frozen=True)
class SeenPhoto:
    """What is kept of a photo once it has left memory; candidates stand in the order of its possible focuses."""

    size: Size  # width and height in px of what was read
    source_size: Size
    crop_size: Size
    notes: list[str]
    sight: Sight
    candidates: list[Candidate]


def look_and_cut(photo: HeldPhoto, manual: ManualCrop | None, request: CropRequest, name: str) -> SeenPhoto:
    """Find where the subject may be and write a crop for each of these positions, as `name`-N.png."""
    seen = see(photo.view, request.focus, zoom_to_head=request.zoom == "head")
    sight = seen.scaled(photo.view_scale, photo.size)
    focuses = possible_focuses(sight, request.focus)
    if manual is not None:
        focuses = [replace(focus, point=manual.point(photo.size), how=BY_HAND) for focus in focuses]
    size = nearest_size(photo.source_size, request.sizes)
    crops: dict[Box, WrittenCrop] = {}
    candidates = []
    for focus in focuses:
        head = focus.head.box if focus.head else None
        side_share = manual.side if manual else None
        plan = plan_crop(photo.size, focus.point, head, request.zoom, size, side_share)
        if plan.box not in crops:
            crops[plan.box] = _written(photo, plan, size, request, f"{name}-{len(crops)}.png")
        crop = crops[plan.box]
        look = look_at(crop.pixels, _in_crop(head, plan, size) if head else None)
        entry = used_entry("", photo.view, photo.view_scale, plan, crop.pixels)
        candidates.append(Candidate(focus, plan, look, entry, replace(crop, pixels=np.empty(0))))
    return SeenPhoto(photo.size, photo.source_size, size, photo.notes, sight, candidates)


def _written(photo: HeldPhoto, plan: CropPlan, size: Size, request: CropRequest, name: str) -> WrittenCrop:
    pixels = photo.cut(plan.box, size)
    (request.folder / name).write_bytes(_png(pixels))
    embedding = request.embedder.embed([pixels])[0].numpy() if request.embedder else None
    return WrittenCrop(request.folder / name, pixels, flaws(pixels), small_copy(pixels), embedding)


def _png(pixels: np.ndarray) -> bytes:
    """A PNG file. zlib encodes runs only, after Paeth's filter: a quarter of the usual time, and no larger files."""
    import cv2

    parameters = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    parameters += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH]
    written, content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), parameters)
    assert written
    return content.tobytes()


def _in_crop(box: Box, plan: CropPlan, size: Size) -> Box:
    """A box of the photo in px of its crop."""
    across, down = (side / planned for side, planned in zip(size, plan.size, strict=True))
    x0, y0, x1, y1 = box
    return (x0 - plan.x0) * across, (y0 - plan.y0) * down, (x1 - plan.x0) * across, (y1 - plan.y0) * down
