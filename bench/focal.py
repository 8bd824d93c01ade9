"""Where crops look: share of whole heads inside the square, zoomed shares, faces, and the finder's speed.

FOLDER.csv beside FOLDER names its pictures and head boxes: file, species, head_x0, head_y0, head_x1, head_y1 in px.
"""

from __future__ import annotations

import csv
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limner.embeddings.head_finder import HeadFinder
from limner.errors import PhotoError
from limner.photos import CropPlan, bucket_sizes, find_focus, nearest_size, plan_crop
from limner.photos.saliency import salient_point

INSIDE = 0.99  # of the head box
ZOOMED = (0.45, 0.75)  # of the crop's side
SIZE_PX = 256
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pictured:
    """A picture and its head's true box."""

    name: str
    pixels: np.ndarray
    box: Box


def read(folder: Path) -> list[Pictured]:
    """The pictures that FOLDER.csv lists. Raises PhotoError without it."""
    table = folder.with_name(folder.name + ".csv")
    if not table.is_file():
        raise PhotoError(f"{table} is not there; it names each picture's head box (see bench/focal.py)")
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pictures = []
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        box = (float(row["head_x0"]), float(row["head_y0"]), float(row["head_x1"]), float(row["head_y1"]))
        pictures.append(Pictured(row["file"], pixels, box))
    return pictures


def share_inside(box: Box, plan: CropPlan) -> float:
    """Share of the box's area that lies in the crop."""
    wide = max(0.0, min(box[2], plan.x1) - max(box[0], plan.x0))
    high = max(0.0, min(box[3], plan.y1) - max(box[1], plan.y0))
    return wide * high / ((box[2] - box[0]) * (box[3] - box[1]))


def share_of_side(box: Box, plan: CropPlan) -> float:
    """The box's longer side as a share of the crop's."""
    return max(box[2] - box[0], box[3] - box[1]) / plan.side_px


def by_centre(pixels: np.ndarray) -> CropPlan:
    """The middle square."""
    return _largest(pixels, (pixels.shape[1] / 2, pixels.shape[0] / 2))


def by_saliency(pixels: np.ndarray) -> CropPlan:
    """The square about the salient point."""
    return _largest(pixels, salient_point(pixels))


def by_smartcrop(pixels: np.ndarray) -> CropPlan:
    """The square that the package smartcrop takes."""
    import smartcrop  # pyright: ignore[reportMissingImports]

    side = min(pixels.shape[:2])
    found = smartcrop.SmartCrop().crop(Image.fromarray(pixels), 100, 100)["top_crop"]
    middle = (found["x"] + found["width"] / 2, found["y"] + found["height"] / 2)
    return plan_crop((pixels.shape[1], pixels.shape[0]), middle, None, "picture", (side, side))


def by_limner(pixels: np.ndarray) -> CropPlan:
    """What `prepare` does with a single photo."""
    return _largest(pixels, find_focus(pixels, "auto").point)


def in_buckets(pixels: np.ndarray) -> CropPlan:
    """The same with shape = "buckets" at 512 px."""
    size = (pixels.shape[1], pixels.shape[0])
    shape = nearest_size(size, bucket_sizes(512))
    return plan_crop(size, find_focus(pixels, "auto").point, None, "picture", shape)


def _largest(pixels: np.ndarray, point: tuple[float, float]) -> CropPlan:
    return plan_crop((pixels.shape[1], pixels.shape[0]), point, None, "picture", (SIZE_PX, SIZE_PX))


def zoomed(picture: Pictured) -> tuple[float, float]:
    """With --zoom head: the head's share of the side, and how much of it lies inside."""
    focus = find_focus(picture.pixels, "auto", zoom_to_head=True)
    size = (picture.pixels.shape[1], picture.pixels.shape[0])
    plan = plan_crop(size, focus.point, focus.head.box if focus.head else None, "head", (128, 128))
    return share_of_side(picture.box, plan), share_inside(picture.box, plan)


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def focal(folder: Path, device: str, brief: bool = False) -> str:
    """The tables as Markdown; `brief` leaves out smartcrop, which is slow and only compared with."""
    pictures = read(folder)
    ways = {"limner": by_limner, "limner, in buckets": in_buckets, "salient point": by_saliency, "centre": by_centre}
    if not brief and importlib.util.find_spec("smartcrop"):
        ways["smartcrop"] = by_smartcrop
    lines = [f"| largest crop, {len(pictures)} pictures | head at least 99% inside | pictures missed |"]
    lines += ["|---|---|---|"]
    for name, way in ways.items():
        shares = [share_inside(picture.box, way(picture.pixels)) for picture in pictures]
        missed = [picture.name for picture, share in zip(pictures, shares, strict=True) if share < INSIDE]
        listed = ", ".join(missed) if len(missed) <= 5 else str(len(missed))
        lines += [f"| {name} | {1 - len(missed) / len(pictures):.1%} | {listed} |"]
    shares = [zoomed(picture) for picture in pictures]
    well = np.mean([ZOOMED[0] <= share <= ZOOMED[1] for share, _ in shares])
    whole = np.mean([inside >= INSIDE for _, inside in shares])
    lines += [
        "",
        f"With `--zoom head` the head fills 45 to 75% of the side in {well:.1%}, and lies whole in {whole:.1%}.",
    ]
    return "\n".join([*lines, "", *speed([picture.pixels for picture in pictures], device)])


def speed(images: Sequence[np.ndarray], device: str) -> list[str]:
    """Pictures a second, one at a time and together, on `device`."""
    finder = HeadFinder(device)
    finder.find(images[:8])
    one = seconds_of(lambda: [finder.find([image]) for image in images])
    together = seconds_of(lambda: finder.find(images))
    pets = seconds_of(lambda: finder.find(images, ["cat", "dog"]))
    rates = [len(images) / seconds for seconds in (one, together, pets)]
    return [
        f"Heads found in pictures a second, {torch.get_num_threads()} threads, {device}: {rates[0]:.1f} one by one, "
        f"{rates[1]:.1f} together, {rates[2]:.1f} together for cats and dogs alone."
    ]
