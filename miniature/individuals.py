"""The eight cats of the check: their photos as limner prepares them, and what tells one from another.

Everything slow (decoding, looking for heads, embedding) is kept under WORK/subjects, so that it is done once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from limner.artifacts import PhotoSet, file_hashes, hash_bytes, whole_folder, write_manifest
from limner.config import Prepare
from limner.embeddings import EfficientNetLite0, EmbeddingCache, SubjectHeads, view_crops
from limner.embeddings.efficientnet import EFFICIENTNET
from limner.measuring import nearest_photo
from limner.stages.prepare import prepare

NAMES = ("appy", "birba", "bortolo", "crystalino", "elvis", "koshka", "mina", "roxy")
CLASS_NOUN = "cat face"
COPY_QUANTILE = 0.9


@dataclass(frozen=True)
class Individual:
    """One cat: its photos and their embeddings, all of unit norm."""

    name: str
    folder: Path
    """The prepared photo set."""
    heads: Tensor  # (M, D)
    views: Tensor  # (M, V, D), of whole crops; view 0 is the crop itself

    @property
    def prototype(self) -> Tensor:
        """Mean embedding of its heads, of unit norm (D,)."""
        return F.normalize(self.heads.mean(0), dim=0)

    @property
    def whole_prototype(self) -> Tensor:
        """The same of its whole photos, for renders without a head."""
        return F.normalize(self.views[:, 0].mean(0), dim=0)

    @property
    def copy_limit(self) -> float:
        """The 90th percentile of its real photos' similarity to their nearest other photo."""
        nearest = nearest_photo(self.views[:, 0], self.views, torch.arange(len(self.views)))
        return float(nearest.quantile(COPY_QUANTILE))


def nearest_prototype(heads: Tensor, prototypes: Tensor) -> Tensor:
    """Index of the nearest of K prototypes (K, D) for each head (N, D), all of unit norm: (N,)."""
    return (heads @ prototypes.T).argmax(1)


def real_photos_recognised(individuals: list[Individual]) -> float:
    """Share of real photos nearest to their own cat's prototype, each left out of it: what renders could reach."""
    right = []
    for index, cat in enumerate(individuals):
        for photo in range(len(cat.heads)):
            others = cat.heads[torch.arange(len(cat.heads)) != photo]
            prototypes = torch.stack([other.prototype for other in individuals])
            prototypes[index] = F.normalize(others.mean(0), dim=0)
            right.append(int(nearest_prototype(cat.heads[photo : photo + 1], prototypes)[0]) == index)
    return sum(right) / len(right)


def load_embedder(source: str, device: torch.device | str) -> EfficientNetLite0:
    """limner's EfficientNet-Lite0; `source` is a safetensors file, or "package"."""
    embedder = EfficientNetLite0(device, None if source == "package" else Path(source))
    # Its weights were published once, but lie in files of two formats: the cache must not tell these apart.
    embedder.identity = hash_bytes(EFFICIENTNET.encode())
    return embedder


def load_individuals(data: Path, work: Path, settings: Prepare, embedder: EfficientNetLite0) -> list[Individual]:
    """All eight, prepared and embedded; from WORK alone where DATA/subjects is absent and all was done before."""
    return [_load(name, data, work, settings, embedder) for name in NAMES]


def _load(name: str, data: Path, work: Path, settings: Prepare, embedder: EfficientNetLite0) -> Individual:
    source, folder = data / "subjects" / name, work / "subjects" / "photos" / name
    photo_set = prepare(source, folder, settings) if source.is_dir() else PhotoSet(folder)
    cache = EmbeddingCache(work / "subjects" / "embeddings" / name)
    crop = SubjectHeads(CLASS_NOUN, photo_set.files).crop
    heads = cache.embed(embedder, photo_set.files, crop).vectors
    views = [cache.embed(embedder, photo_set.files, crop).vectors for crop in view_crops()]
    return Individual(name, folder, heads, torch.stack(views, 1))


def first_photos(folder: Path, count: int | None, out: Path) -> PhotoSet:
    """The photo set in `folder`, or one of its first `count` crops in `out`."""
    whole = PhotoSet(folder)
    if count is None or count >= len(whole.files):
        return whole
    with whole_folder(out) as fresh:
        for file in whole.files[:count]:
            shutil.copyfile(file, fresh / file.name)
        record = whole.record.model_copy(update={"photos": whole.photos[:count]})
        key = f"{whole.manifest.key}-first-{count}"
        write_manifest(fresh, replace(whole.manifest, key=key, files=file_hashes(fresh), record=record))
    return PhotoSet(out)
