"""What scoring costs: 1,000 renders through the models that ship, and through others whose folders are given."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.table import Figure, Row
from limner.base import BaseLocation, find_base, load_base
from limner.config import ClassImages, Subject
from limner.embeddings import WHOLE, Crop, EmbeddingCache, ImageEmbedder, around_head, find_embedder
from limner.stages.class_images import make_class_images

PICTURES, PAINTED, SIDE_PX, FEW = 1000, 40, 512, 200
CLASS_NOUN = "cat face"


def measuring(work: Path, device: str, models: Sequence[str]) -> list[Row]:
    """A row a model and crop, then all together; on a processor of 200 pictures."""
    base = find_base("miniature")
    count = PICTURES if device == "cuda" else FEW
    files = _write_renders(work / "renders", base, device, count)
    heads, cache = around_head(CLASS_NOUN), work / "embeddings"
    shutil.rmtree(cache, ignore_errors=True)
    rows = []
    for name in models:
        embedder = find_embedder(name, base).load_image(device)
        embedder.embed([np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)] * 2)  # kernels are chosen
        for crop in (heads, WHOLE):
            seconds = _seconds(EmbeddingCache(cache), embedder, files, crop)
            what = "heads" if crop is heads else "whole"
            note = f"{len(files) / seconds:.0f} pictures a second"
            rows.append(Row(f"{count} pictures, {name}, {what}", Figure((seconds,), note=note), None, "s"))
    total = sum(row.ours.median for row in rows if row.ours)
    return [*rows, Row(f"{count} pictures, all", Figure((total,)), None, "s", "heads are looked for once")]


def _seconds(cache: EmbeddingCache, embedder: ImageEmbedder, files: list[Path], crop: Crop) -> float:
    began = time.perf_counter()
    cache.embed(embedder, files, crop)
    return time.perf_counter() - began


def _write_renders(folder: Path, base: BaseLocation, device: str, count: int) -> list[Path]:
    """Renders of the miniature at 512 px, each in many shifts, so that no two files are the same."""
    settings = ClassImages(count=PAINTED, sampler="dpm++", steps=15, guidance_scale=3.0)
    subject = Subject(photos=folder, class_noun=CLASS_NOUN)
    load = lambda: load_base(base, device=torch.device(device))  # noqa: E731
    painted = make_class_images(load, base.content_hash, subject, settings, 256, folder / "painted").files
    pictures = [Image.open(file).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for file in painted]
    files = [folder / f"{index:04d}.png" for index in range(count)]
    for index, file in enumerate(files):
        if not file.exists():
            shifted = np.roll(np.asarray(pictures[index % PAINTED]), index // PAINTED, (0, 1))
            Image.fromarray(shifted).save(file, compress_level=1)
    return files
