"""What of a study's models and photos matters for memory, read from configurations and file headers."""

from __future__ import annotations

import math
from pathlib import Path

from limner.base import BaseLocation
from limner.base.find import find_controlnet
from limner.config import Study
from limner.memory.prediction import Parts
from limner.memory.shapes import read_shapes


def read_parts(study: Study, folder: Path, base: BaseLocation) -> Parts:
    """No weight is loaded. `folder` is the study file's. Raises BaseError for configurations that cannot be read."""
    controlnet = ""
    if study.control and study.control.references:
        controlnet = (find_controlnet(study.control.model, base) / "config.json").read_text(encoding="utf-8")
    checker = base.weight_files("safety_checker") if study.base.safety_checker and base.has_safety_checker else []
    photos = folder / study.subject.photos
    count = sum(path.is_file() for path in photos.iterdir()) if photos.is_dir() else 0
    return Parts(read_shapes(base, study.base.vae), controlnet, sum(map(_numbers_in, checker)), count)


def _numbers_in(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
