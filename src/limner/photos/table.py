"""The table that says, before training, which photos are used and which are not."""

from __future__ import annotations

from collections.abc import Sequence

from limner.photos.listing import Refusal
from limner.records import PhotoRecord


def checked_table(photos: Sequence[PhotoRecord], refused: Sequence[Refusal]) -> str:
    """A row for each photo that is left out or has a warning or a note, under a line with the counts.

    Empty if there is nothing to report.
    """
    rows = [("left out", refusal.source, refusal.reason) for refusal in refused]
    warned = [photo for photo in photos if photo.warnings]
    noted = [photo for photo in photos if photo.notes and not photo.warnings]
    for word, some in (("warning", warned), ("note", noted)):
        rows += [(word, photo.source, "; ".join(photo.notes)) for photo in some]
    if not rows:
        return ""
    width = max(len(name) for _, name, _ in rows)
    counts = f"{len(photos)} photos are used, {len(warned)} of them with a warning; {len(refused)} are left out"
    return "\n".join([counts, *(f"  {word:<8}  {name:<{width}}  {why}" for word, name, why in rows)])
