"""Which photos are held out of training, so that likeness can be measured against photos that were not memorised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from limner.errors import PhotoError

ENOUGH_PHOTOS = 20
ONE_IN = 5


def choose_held_out(hashes: Sequence[str], twins: Sequence[bool], held_out: int | Literal["auto"]) -> list[int]:
    """Indices of the photos to hold out, ascending; `hashes` are of their content, `twins` mark those that repeat
    another.

    "auto" is one in five for 20 photos or more, else none. They are those with the lowest hashes, so that neither file
    names nor the order of files matter; near-duplicates come last, as their twin would be trained on. Raises
    PhotoError if none would be left to train on.
    """
    count = len(hashes)
    wanted = (count // ONE_IN if count >= ENOUGH_PHOTOS else 0) if held_out == "auto" else held_out
    if wanted and wanted >= count:
        raise PhotoError(
            f"prepare.held_out is {wanted} and {count} photos can be used, so none would be left to train on; "
            "lower it or add photos"
        )
    order = sorted(range(count), key=lambda index: (twins[index], hashes[index], index))
    return sorted(order[:wanted])
