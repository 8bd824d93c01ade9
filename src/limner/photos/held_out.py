"""Which photos no training sees, so that likeness can be measured against photos that were not learnt by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from limner.errors import PhotoError

ENOUGH_PHOTOS = 20
ONE_IN = 5


def choose_held_out(hashes: Sequence[str], twins: Sequence[bool], held_out: int | Literal["auto"]) -> list[int]:
    """Places of the photos to hold out, ascending; `hashes` name their content, `twins` those that repeat another.

    "auto" is one in five from 20 photos on, else none. They are those with the lowest hashes, so that neither a file's
    name nor the order of files matters; one of two that are nearly the same comes last, as the other would be trained
    on. Raises PhotoError when none would be left to train on.
    """
    count = len(hashes)
    wanted = (count // ONE_IN if count >= ENOUGH_PHOTOS else 0) if held_out == "auto" else held_out
    if wanted and wanted >= count:
        raise PhotoError(
            f"prepare.held_out is {wanted} and {count} photos can be used, so none would be left to train on; "
            "lower it or add photos"
        )
    order = sorted(range(count), key=lambda place: (twins[place], hashes[place], place))
    return sorted(order[:wanted])
