"""The pair of pictures that the page compares until others are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from limner.reporting.plates import Group, Plate, Row, Shown


@dataclass(frozen=True)
class Compared:
    """Two columns' pictures of one row."""

    row: str
    left: Shown
    right: Shown


def first_pair(plate: Plate) -> Compared | None:
    """The first row in which two columns have a picture: the first two variants', or the base's and one; or None."""
    rows = [(group, row) for group in plate.groups for row in group.rows]
    for with_base in (False, True):
        for group, row in rows:
            shown = [each for each in row.cells if each and not each.flagged and (with_base or not each.column.is_base)]
            if len(shown) > 1:
                return Compared(row_title(group, row), shown[0], shown[1])
    return None


def row_title(group: Group, row: Row) -> str:
    """What a row of a plate shows; a reference may be called as a prompt is."""
    return f"{group.name}{' (reference)' if group.reference else ''} · {row.title}"
