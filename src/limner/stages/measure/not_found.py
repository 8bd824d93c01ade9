"""Photos and renders in which no head, or no face, was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from limner.metrics import ModelView


def not_found_notes(view: ModelView) -> Iterator[str]:
    """How many there are, and what became of them."""
    what, became = "head", "likeness compares their centre"
    if view.crop.leaves_out:
        what, became = "face", "they are left out of likeness by faces"
    inputs = view.inputs
    photos = inputs.compared_photos
    without = [file.name for file, found in zip(photos, view.photos.found.tolist(), strict=True) if not found]
    if without:
        yield f"no {what} was found in {len(without)} of {len(photos)} photos ({', '.join(without)}); {became}"
    indices = inputs.indices_where(lambda index: not view.renders.found[index] and inputs.names_subject(index))
    by_variant = Counter(picture.cell.variant for picture in inputs.chosen(indices))
    if by_variant:
        counts = ", ".join(f"{variant} {count}" for variant, count in by_variant.items())
        yield f"no {what} was found in {by_variant.total()} of {len(inputs.pictures)} renders ({counts}); {became}"
