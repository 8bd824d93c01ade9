"""focus.toml beside the photos: where its owner wants crops to lie.

["IMG_0012.jpg"]
at = [0.42, 0.31]   # the crop's middle: shares of the width from the left and of the height from the top
side = 0.8          # the crop's side as a share of the largest crop's; left out: as `zoom` has it
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from limner.errors import PhotoError

FOCUS_FILE = "focus.toml"
BY_HAND = "by hand"


_Share = Annotated[float, Field(ge=0, le=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: tuple[_Share, _Share]
    side: float | None = Field(default=None, gt=0, le=1)


@dataclass(frozen=True)
class Wish:
    """Where a crop shall lie: its middle and side as shares of the upright photo's width, height and largest crop."""

    at: tuple[float, float]
    side: float | None = None

    def point(self, size: tuple[int, int]) -> tuple[float, float]:
        """The middle (x, y) in px of a photo of `size` (width, height)."""
        return self.at[0] * size[0], self.at[1] * size[1]


def read_wishes(folder: Path, names: Collection[str]) -> dict[str, Wish]:
    """The wishes in `folder`/focus.toml by photo name; none without the file.

    Raises PhotoError, with all faults, for a file that is no TOML, a photo that is not among `names` or a value out of
    place.
    """
    file = folder / FOCUS_FILE
    if not file.is_file():
        return {}
    try:
        record = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PhotoError(f"{file} cannot be read as TOML ({error}); mend or remove it") from None
    faults, wishes = [], {}
    for name, value in record.items():
        if name not in names:
            faults.append(f'"{name}" is not a photo here; give the file name as it is, in quotes')
            continue
        try:
            wishes[name] = _wish(value)
        except ValidationError as error:
            faults += [f'"{name}" {_said(fault)}' for fault in error.errors()]
    if faults:
        raise PhotoError(f"{file}: {'; '.join(faults)}")
    return wishes


def _wish(value: object) -> Wish:
    entry = _Entry.model_validate(value)
    return Wish(entry.at, entry.side)


def _said(fault: ErrorDetails) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place or 'entry'}: {fault['msg']}, not {fault['input']!r}"
