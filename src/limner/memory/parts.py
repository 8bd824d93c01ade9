"""What of a study's models and photos matters for memory, read from configurations and file headers."""

from __future__ import annotations

import contextlib
from pathlib import Path

from limner.base import BaseLocation
from limner.base.weights.header import numbers_in
from limner.config import Study
from limner.embeddings import find_embedder
from limner.errors import InputError
from limner.memory.prediction import Parts
from limner.memory.shapes import read_shapes


def read_parts(
    study: Study, folder: Path, base: BaseLocation, vae: Path | None = None, controlnet: Path | None = None
) -> Parts:
    """No weight is loaded. `folder` is the study file's; `vae` and `controlnet` are where the study's own lie.

    Raises BaseError for configurations that cannot be read.
    """
    conditioned = (controlnet / "config.json").read_text(encoding="utf-8") if controlnet else ""
    checker = base.weight_files("safety_checker") if study.base.safety_checker and base.has_safety_checker else []
    photos = folder / study.subject.photos
    count = sum(path.is_file() for path in photos.iterdir()) if photos.is_dir() else 0
    shapes = read_shapes(base, vae)
    return Parts(shapes, conditioned, sum(map(numbers_in, checker)), count, _scoring_bytes(study, base))


def _scoring_bytes(study: Study, base: BaseLocation) -> int:
    """The models that score pictures while training, where a variant asks for it; absent ones will be left out."""
    if not any(variant.validation.scored for variant in study.variants):
        return 0
    total = 0
    for name in (*study.measure.likeness, study.measure.prompt_fidelity):
        with contextlib.suppress(InputError):
            total += find_embedder(name, base).device_bytes
    return total
