"""Photos and renders in which no head, or no face, was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from limner.embeddings import SubjectHeads
from limner.metrics import ModelView


def not_found_notes(view: ModelView) -> Iterator[str]:
    """How many there are, and what became of them."""
    what, became = "head", "they are compared whole with whole photos, and do not rank among the most alike"
    if view.crop.leaves_out:
        what, became = "face", "they are left out of likeness by faces"
    inputs = view.inputs
    photos = inputs.compared_photos
    without = [file.name for file, found in zip(photos, view.photos.found.tolist(), strict=True) if not found]
    if without:
        left_out = became if view.crop.leaves_out else "only pictures without a head are compared with them"
        yield f"no {what} was found in {len(without)} of {len(photos)} photos ({', '.join(without)}); {left_out}"
    asked = inputs.indices_where(inputs.names_subject)
    indices = [index for index in asked if not view.renders.found[index]]
    by_variant = Counter(picture.cell.variant for picture in inputs.chosen(indices))
    if by_variant:
        counts = ", ".join(f"{variant} {count}" for variant, count in by_variant.items())
        yield f"no {what} was found in {by_variant.total()} of {len(asked)} renders of the subject ({counts}); {became}"


def whole_pictures_note(heads: SubjectHeads) -> str:
    """Why whole pictures are compared although the settings ask for heads."""
    return (
        f"likeness compares whole pictures: a head was found in {heads.seen} of {len(heads.photos)} photos, and heads "
        "are compared where at least half of the photos show one"
    )
