"""The pictures of a report: full-size copies beside the page, WebP inside it, small enough for the page's limit."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from limner.errors import LimnerError

# longest side in pixels and WebP quality, best first
LADDER = (
    (768, 84), (640, 82), (512, 82), (448, 80), (384, 78), (320, 75), (256, 72), (192, 66), (128, 58), (96, 48),
    (64, 40), (32, 30),
)  # fmt: skip
SAMPLE = 16  # pictures that are encoded to foresee the size of all
PREFIX = "data:image/webp;base64,"


@dataclass(frozen=True)
class Thumbnail:
    """A picture as it stands in the page."""

    uri: str
    width: int
    height: int


class Gallery:
    """All pictures of one report, by the name they have beside the page."""

    def __init__(self) -> None:
        self._sources: dict[str, Path] = {}

    def add(self, source: Path, name: str) -> str:
        """Take a picture in and return its path relative to the page. LimnerError when it is not there."""
        if not source.is_file():
            raise LimnerError(
                f"{source} is named by its manifest but does not exist; run the stage that makes it again"
            )
        file = f"images/{name}"
        self._sources[file] = source
        return file

    def copy_to(self, folder: Path) -> None:
        """Copy the full-size pictures below `folder`."""
        for file, source in self._sources.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / file)

    @property
    def files(self) -> list[str]:
        """Paths of all pictures relative to the page."""
        return list(self._sources)

    def thumbnails(self, budget_bytes: int) -> Iterator[dict[str, Thumbnail]]:
        """Sets of thumbnails of falling size, from the largest that should fit `budget_bytes` on; the last is empty."""
        names = list(self._sources)
        sample = names[:: max(1, len(names) // SAMPLE)]
        for side_px, quality in LADDER:
            part = sum(len(thumb.uri) for thumb in self._encode(sample, side_px, quality).values())
            if part * len(names) > budget_bytes * max(1, len(sample)):
                continue
            yield self._encode(names, side_px, quality)
        yield {}

    def _encode(self, names: Sequence[str], side_px: int, quality: int) -> dict[str, Thumbnail]:
        with ThreadPoolExecutor() as pool:
            thumbnails = pool.map(lambda name: encode(self._sources[name], side_px, quality), names)
            return dict(zip(names, thumbnails, strict=True))


def encode(path: Path, side_px: int, quality: int) -> Thumbnail:
    """A picture as a WebP data URI whose longer side is at most `side_px`."""
    from PIL import Image

    with Image.open(path) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    shown.save(content, "WEBP", quality=quality, method=4)
    return Thumbnail(PREFIX + base64.b64encode(content.getvalue()).decode("ascii"), *shown.size)
