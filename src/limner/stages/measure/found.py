"""Photos and renders in which no head, or no face, was found."""

from __future__ import annotations

from collections import Counter

from torch import Tensor

from limner.stages.measure.work import Work


def note_not_found(work: Work, in_photos: Tensor, in_renders: Tensor) -> None:
    """Notes of how many there are and what became of them; `in_photos` (M,) and `in_renders` (N,) are of bool."""
    what, became = "head", "likeness compares their centre"
    if work.crop.leaves_out:
        what, became = "face", "they are left out of likeness by faces"
    photos = work.likeness_photos
    without = [file.name for file, found in zip(photos, in_photos.tolist(), strict=True) if not found]
    if without:
        work.scores.notes.append(
            f"no {what} was found in {len(without)} of {len(photos)} photos ({', '.join(without)}); {became}"
        )
    found = zip(work.pictures, in_renders.tolist(), strict=True)
    by_variant = Counter(picture.cell.variant for picture, there in found if not there and work.names_subject(picture))
    if by_variant:
        listed = ", ".join(f"{variant} {count}" for variant, count in by_variant.items())
        work.scores.notes.append(
            f"no {what} was found in {by_variant.total()} of {len(work.pictures)} renders ({listed}); {became}"
        )
