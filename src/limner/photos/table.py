"""The table that says, before training, which photos are used and which are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.photos.listing import Refusal


def checked_table(records: Sequence[Mapping[str, Any]], refused: Sequence[Refusal]) -> str:
    """A row for each photo that is left out or has a warning or a note, under a line with the counts.

    `records` are of photos that are used: source, notes, and which notes are warnings. Empty if there is nothing to
    report.
    """
    rows = [("left out", refusal.source, refusal.reason) for refusal in refused]
    warned = [record for record in records if record["warnings"]]
    noted = [record for record in records if record["notes"] and not record["warnings"]]
    for word, some in (("warning", warned), ("note", noted)):
        rows += [(word, record["source"], "; ".join(record["notes"])) for record in some]
    if not rows:
        return ""
    width = max(len(name) for _, name, _ in rows)
    counts = f"{len(records)} photos are used, {len(warned)} of them with a warning; {len(refused)} are left out"
    return "\n".join([counts, *(f"  {word:<8}  {name:<{width}}  {why}" for word, name, why in rows)])
