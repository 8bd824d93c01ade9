"""Pictures of others of the subject's class: among them the subject has to be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from limner.artifacts import ClassSet, canonical_json, hash_bytes, hash_file
from limner.errors import InputError
from limner.measuring import BASE_VARIANT, FEWEST_OTHERS, Picture, styles_named

MOST_OTHERS = 48  # more would take time and say little


@dataclass(frozen=True)
class OtherPictures:
    """Where they come from, in words, and their files."""

    origin: str
    files: list[Path]
    real: bool = False
    """Photos, not renders: renders of others are easier to tell from photos of the subject than photos of others."""

    @property
    def content_hash(self) -> str:
        """Names them in the stage's key."""
        return hash_bytes(canonical_json([hash_file(file) for file in self.files]))


def find_others(folder: Path | None, class_set: ClassSet | None, pictures: Sequence[Picture]) -> OtherPictures:
    """The user's pictures; else class images; else the base's renders of prompts without a style.

    Raises InputError when `folder` is not there or holds fewer than seven pictures.
    """
    if folder is not None:
        return OtherPictures("measure.others", _pictures_in(folder)[:MOST_OTHERS], real=True)
    if class_set is not None and len(class_set.files) >= FEWEST_OTHERS:
        return OtherPictures("class images", class_set.files[:MOST_OTHERS])
    of_base = [p for p in pictures if p.cell.variant == BASE_VARIANT and p.cell.reference is None]
    plain = [p.file for p in of_base if styles_named(p.cell.text) == []]
    return OtherPictures("the base's renders", plain[:MOST_OTHERS])


def _pictures_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"measure.others {folder} is not there; name a folder of pictures or leave it out")
    endings = Image.registered_extensions()
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in endings)
    if len(files) < FEWEST_OTHERS:
        raise InputError(
            f"measure.others {folder} holds {len(files)} pictures and {FEWEST_OTHERS} are needed; "
            "add pictures of others of the class or leave it out"
        )
    return files
