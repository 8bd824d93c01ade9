"""What scoring costs: 1,000 renders through the models that ship, and through others whose folders are given.

Every row says where its time went: to the threads that read and cut pictures (decode, cut: sums over all of them), and
to the caller, who waits for them, finds heads and embeds.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.table import Figure, Row
from limner.base import BaseLocation, find_base, load_base
from limner.config import ClassImages, Subject
from limner.embeddings import WHOLE, Crop, EmbeddingCache, ImageEmbedder, SubjectHeads, find_embedder, view_crops
from limner.measuring import ceiling, drift, likeness, nearest_photo, photo_spread
from limner.stages.class_images import make_class_images
from limner.stages.context import Context

PICTURES, PAINTED, SIDE_PX, FEW = 1000, 40, 512, 200
PHOTOS = 16
CLASS_NOUN = "cat face"


def measuring(work: Path, device: str, models: Sequence[str]) -> list[Row]:
    """A row a model and crop, then all together; on a processor of 200 pictures."""
    base = find_base("miniature")
    count = PICTURES if device == "cuda" else FEW
    files = _write_renders(work / "renders", base, device, count)
    heads, cache = SubjectHeads(CLASS_NOUN, files[:PHOTOS], device).crop, work / "embeddings"
    shutil.rmtree(cache, ignore_errors=True)
    rows = []
    for name in models:
        place = find_embedder(name, base)
        embedder, own_crop = place.load_image(device), place.required_crop()
        embedder.embed([np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)] * 2)  # kernels are chosen
        for what, crop in ({"faces": own_crop} if own_crop else {"heads": heads, "whole": WHOLE}).items():
            rows.append(_embed(EmbeddingCache(cache), embedder, files, crop, what))
        if own_crop is None:
            rows.append(_score(EmbeddingCache(cache), embedder, files))
    total = sum(row.ours.median for row in rows if row.ours)
    return [*rows, Row(f"{count} pictures, all", Figure((total,)), None, "s", "heads are looked for once")]


def _embed(cache: EmbeddingCache, embedder: ImageEmbedder, files: list[Path], crop: Crop, what: str) -> Row:
    began = time.perf_counter()
    found = cache.embed(embedder, files, crop).found
    seconds = time.perf_counter() - began
    stages = ", ".join(f"{stage} {spent:.2f}" for stage, spent in asdict(cache.timings).items())
    note = f"{len(files) / seconds:.0f} pictures a second, {found.float().mean():.0%} found; {stages} s"
    return Row(f"{len(files)} pictures, {embedder.name}, {what}", Figure((seconds,), note=note), None, "s")


def _score(cache: EmbeddingCache, embedder: ImageEmbedder, files: list[Path]) -> Row:
    """What follows once all is embedded: likeness and its ceiling, copying in all views, drift."""
    renders = cache.embed(embedder, files).vectors
    photos = renders[:PHOTOS]
    views = photos[:, None].expand(-1, len(view_crops()), -1)  # (M, V, D)
    began = time.perf_counter()
    likeness(renders, photos)
    drift(renders, renders)
    ceiling(photos)
    nearest_photo(renders, views)
    photo_spread(views)
    return Row(f"{len(files)} pictures, {embedder.name}, scores", Figure((time.perf_counter() - began,)), None, "s")


def _write_renders(folder: Path, base: BaseLocation, device: str, count: int) -> list[Path]:
    """Renders of the miniature at 512 px, each in many shifts, so that no two files are the same."""
    settings = ClassImages(count=PAINTED, sampler="dpm++", steps=15, guidance_scale=3.0)
    subject = Subject(photos=folder, class_noun=CLASS_NOUN)
    context = Context(subject, lambda: load_base(base, device=torch.device(device)), base.content_hash)
    painted = make_class_images(context, settings, 256, folder / "painted").files
    pictures = [Image.open(file).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC) for file in painted]
    files = [folder / f"{index:04d}.png" for index in range(count)]
    for index, file in enumerate(files):
        if not file.exists():
            shifted = np.roll(np.asarray(pictures[index % PAINTED]), index // PAINTED, (0, 1))
            Image.fromarray(shifted).save(file, compress_level=1)
    return files
