"""Which part of a picture is embedded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from limner.artifacts import hash_bytes
from limner.embeddings.embedder import Pixels
from limner.embeddings.heads import HEAD_FINDER_VERSION, head_crop
from limner.errors import LimnerError

NOUNS = {
    "cat": {"cat", "kitten", "kitty", "tomcat"},
    "person": {"person", "woman", "man", "girl", "boy", "lady", "child", "human", "male", "female"},
}
Cut = Callable[[Pixels, int], tuple[Pixels, bool]]  # (picture, side in pixels) -> (crop, whether its object was found)


@dataclass(frozen=True)
class Crop:
    """How a picture is cut before it is embedded; `name` stands for it in caches and keys."""

    name: str
    cut: Cut


WHOLE = Crop("whole", lambda image, side_px: (image, True))
MIRRORED = Crop("mirrored", lambda image, side_px: (np.ascontiguousarray(image[:, ::-1]), True))


def around_head(class_noun: str) -> Crop:
    """Cut squares around heads of the kind that `class_noun` names, of any kind where it names none.

    The crops it has cut are remembered, so that a second embedder of the same size need not look for heads again.
    """
    kinds = _kinds_of(class_noun)
    known: dict[tuple[str, int], tuple[Pixels, bool]] = {}

    def cut(image: Pixels, side_px: int) -> tuple[Pixels, bool]:
        key = (hash_bytes(repr(image.shape).encode() + image.tobytes()), side_px)
        if key not in known:
            crop = head_crop(image, side_px, kinds)
            known[key] = (crop.image, crop.found)
        return known[key]

    return Crop("-".join(["head", str(HEAD_FINDER_VERSION), *(kinds or [])]), cut)


def _kinds_of(class_noun: str) -> list[str] | None:
    words = set(class_noun.lower().split())
    return next(([kind] for kind, nouns in NOUNS.items() if words & nouns), None)


def read_image(file: Path) -> Pixels:
    """A picture file as uint8 (H, W, 3). Raises LimnerError when it cannot be read."""
    try:
        with Pillow.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise LimnerError(
            f"{file} cannot be read as a picture ({error}); remove it and run the same command again"
        ) from None
