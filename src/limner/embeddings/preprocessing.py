"""Converts pictures to the input tensors of image models: resize, crop, normalise, with Pillow alone."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from limner.embeddings.embedder import Pixels
from limner.errors import EmbedderError

MOST_RESIZERS = 16
Triple = tuple[float, float, float]
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)  # Radford et al. 2021, their published code
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """How a model's pictures are prepared.

    "shortest-edge" keeps the proportions and crops the centre square of `crop_px`; "square" stretches.
    Normalisation is (value / 255 - mean) / std, per channel.
    """

    resize_px: int
    crop_px: int
    mean: Triple
    std: Triple
    fit: Literal["shortest-edge", "square"] = "shortest-edge"
    resample: Pillow.Resampling = Pillow.Resampling.BICUBIC

    def apply(self, images: Sequence[Pixels]) -> Tensor:
        """Normalised pictures (N, 3, crop_px, crop_px) in fp32."""
        crops = np.stack([*_resizers().map(self._prepared, images)])
        values = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255  # (N, 3, H, W)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (values - mean[:, None, None]) / std[:, None, None]

    def _prepared(self, image: Pixels) -> np.ndarray:
        return self._crop(self._resized(Pillow.fromarray(image)))

    def _resized(self, image: Pillow.Image) -> Pillow.Image:
        width, height = image.size
        if self.fit == "square":
            target = (self.resize_px, self.resize_px)
        elif width <= height:
            target = (self.resize_px, int(self.resize_px * height / width))
        else:
            target = (int(self.resize_px * width / height), self.resize_px)
        return image if target == image.size else image.resize(target, self.resample)

    def _crop(self, image: Pillow.Image) -> np.ndarray:
        x, y = (image.width - self.crop_px) // 2, (image.height - self.crop_px) // 2
        return np.asarray(image.crop((x, y, x + self.crop_px, y + self.crop_px)))


@functools.cache
def _resizers() -> ThreadPoolExecutor:
    """Pillow releases the interpreter's lock while it resizes; a single thread would keep a fast device waiting."""
    return ThreadPoolExecutor(min(MOST_RESIZERS, os.cpu_count() or 1), "limner-resizer")


def clip_preprocessing(size_px: int) -> Preprocessing:
    """CLIP's preprocessing, for a vision tower with pictures of `size_px`."""
    return Preprocessing(size_px, size_px, CLIP_MEAN, CLIP_STD)


def read_preprocessing(folder: Path) -> Preprocessing | None:
    """The preprocessing in a checkpoint's `preprocessor_config.json`; None if it has none.

    Raises EmbedderError if the file exists and cannot be parsed.
    """
    file = folder / PREPROCESSOR
    if not file.is_file():
        return None
    try:
        return _from_record(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise EmbedderError(
            f"{file} does not say how pictures are prepared ({error!r}); correct or remove it"
        ) from None


def _from_record(record: dict[str, Any]) -> Preprocessing:
    crops = bool(record.get("do_center_crop", False))
    resize_px, keeps_proportions = _side(record["size"], default=crops)
    crop_px = _side(record.get("crop_size", resize_px))[0] if crops else resize_px
    return Preprocessing(
        resize_px,
        min(crop_px, resize_px),
        _triple(record["image_mean"]),
        _triple(record["image_std"]),
        fit="shortest-edge" if keeps_proportions else "square",
        resample=Pillow.Resampling(record.get("resample", Pillow.Resampling.BICUBIC)),
    )


def _side(size: int | dict[str, int], default: bool = False) -> tuple[int, bool]:
    """A side in pixels, and whether proportions are kept (older files give a bare number)."""
    if isinstance(size, int):
        return size, default
    if "shortest_edge" in size:
        return size["shortest_edge"], True
    if size["height"] != size["width"]:
        raise ValueError(f"size {size} is not square")
    return size["height"], False


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return (red, green, blue)
