"""Pictures of others of the subject's class: among them the subject has to be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.artifacts import ClassSet, canonical_json, hash_bytes, hash_file
from limner.measuring import BASE_VARIANT, FEWEST_OTHERS, Picture, styles_named

MOST_OTHERS = 48  # more would take time and say little


@dataclass(frozen=True)
class OtherPictures:
    """Where they come from, in words, and their files."""

    origin: str
    files: list[Path]
    real: bool = False
    """Photos, not renders: renders of others are easier to tell from photos of the subject than photos of others."""

    hashes: tuple[str, ...] = ()
    """Of the files, where they are known already."""

    @property
    def content_hash(self) -> str:
        """Names them in the stage's key."""
        return hash_bytes(canonical_json(list(self.hashes) or [hash_file(file) for file in self.files]))


def find_others(class_set: ClassSet | None, pictures: Sequence[Picture]) -> OtherPictures:
    """Class images, where there are enough; else the base's renders of prompts without a style."""
    if class_set is not None and len(class_set.files) >= FEWEST_OTHERS:
        return OtherPictures("class images", class_set.files[:MOST_OTHERS])
    of_base = [p for p in pictures if p.cell.variant == BASE_VARIANT and p.cell.reference is None]
    plain = [p.file for p in of_base if styles_named(p.cell.text) == []]
    return OtherPictures("the base's renders", plain[:MOST_OTHERS])
