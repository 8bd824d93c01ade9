"""focus.toml among the photos: crops that were chosen by hand.

["IMG_0012.jpg"]
at = [0.42, 0.31]   # the crop's middle: shares of the width from the left and of the height from the top
side = 0.8          # the crop's side as a share of the largest crop's; if omitted: as `zoom` says
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
class ManualCrop:
    """A crop's middle and side as shares of the upright photo's width, height and largest crop."""

    at: tuple[float, float]
    side: float | None = None

    def point(self, size: tuple[int, int]) -> tuple[float, float]:
        """The middle (x, y) in px of a photo of `size` (width, height)."""
        return self.at[0] * size[0], self.at[1] * size[1]


def read_manual_crops(folder: Path, names: Collection[str]) -> dict[str, ManualCrop]:
    """The crops in `folder`/focus.toml by photo name; none without the file.

    Raises PhotoError, with all faults, for a file that is not TOML, a photo that is not among `names` or an invalid
    value.
    """
    file = folder / FOCUS_FILE
    if not file.is_file():
        return {}
    try:
        record = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PhotoError(f"{file} cannot be read as TOML ({error}); correct or remove it") from None
    faults, crops = [], {}
    for name, value in record.items():
        if name not in names:
            faults.append(f'"{name}" is not a photo here; give the exact file name, in quotes')
            continue
        try:
            crops[name] = _manual_crop(value)
        except ValidationError as error:
            faults += [f'"{name}" {_said(fault)}' for fault in error.errors()]
    if faults:
        raise PhotoError(f"{file}: {'; '.join(faults)}")
    return crops


def _manual_crop(value: object) -> ManualCrop:
    entry = _Entry.model_validate(value)
    return ManualCrop(entry.at, entry.side)


def _said(fault: ErrorDetails) -> str:
    location = ".".join(str(part) for part in fault["loc"])
    return f"{location or 'entry'}: {fault['msg']}, not {fault['input']!r}"
