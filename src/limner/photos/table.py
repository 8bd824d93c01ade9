"""The table that says which pictures are used and which are not: before training, for photos."""

from __future__ import annotations

from collections.abc import Sequence

from limner.photos.listing import Refusal
from limner.records import PhotoRecord

MOST_UNUSED = 12  # rows of files that nothing uses


def checked_table(photos: Sequence[PhotoRecord], refused: Sequence[Refusal], unused: Sequence[Refusal] = ()) -> str:
    """A row for each photo that is left out or has a warning or a note, under a line with the counts.

    Files that nothing uses follow. Empty if there is nothing to report.
    """
    warned = [photo for photo in photos if photo.warnings]
    noted = [photo for photo in photos if photo.notes and not photo.warnings]
    rows = [("left out", refusal.source, refusal.reason) for refusal in refused]
    for word, some in (("warning", warned), ("note", noted)):
        rows += [(word, photo.source, "; ".join(photo.notes)) for photo in some]
    rows += unused_rows(unused)
    counts = f"{len(photos)} photos are used, {len(warned)} of them with a warning; {len(refused)} are left out"
    return table_of(counts + (f"; {len(unused)} other files are not used" if unused else ""), rows)


def unused_rows(unused: Sequence[Refusal]) -> list[tuple[str, str, str]]:
    """Rows for files that nothing uses; of many, the rest is counted."""
    rows = [("not used", other.source, other.reason) for other in unused[:MOST_UNUSED]]
    more = len(unused) - MOST_UNUSED
    return rows + ([("not used", f"{more} more", "")] if more > 0 else [])


def table_of(heading: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """The heading and a line for each row: a word, a name and why. Empty without rows."""
    if not rows:
        return ""
    width = max(len(name) for _, name, _ in rows)
    return "\n".join([heading, *(f"  {word:<8}  {name:<{width}}  {why}".rstrip() for word, name, why in rows)])
