"""How long work takes: by what this machine did before (the user's cache), else by documented rates or estimates."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limner.artifacts import canonical_json, hash_bytes, write_json

HERE, DOCUMENTED, ESTIMATED = "this machine", "documented rates", "estimated"
MOST_KEPT = 500  # kinds of work
THAWED, ADDED = "step of whole weights", "step of added weights"  # whatever method adds them
SAME_SIZE = 1.25  # measured on work of at most so much more or less than this: nearer than that nothing is scaled


@dataclass(frozen=True)
class Rate:
    """Seconds a unit, of a UNet with so many parameters at so many pixels."""

    seconds: float
    parameters: float
    pixels: float
    measured: bool = True


MINIATURE, SD15 = (11e6, 256 * 256), (860e6, 512 * 512)
RATES: dict[tuple[str, str], Rate] = {  # docs/performance.md: the demo on two Xeon cores, 2026-12-01; one H200
    ("cpu", THAWED): Rate(0.247, *MINIATURE),
    ("cpu", ADDED): Rate(0.131, *MINIATURE),  # of three in one pass
    ("cpu", "picture"): Rate(1.0, *MINIATURE),
    ("cpu", "conditioned picture"): Rate(1.9, *MINIATURE),
    ("cuda", THAWED): Rate(0.025, *SD15),
    ("cuda", ADDED): Rate(0.012, *SD15),
    ("cuda", "picture"): Rate(0.149, *SD15),
    ("cuda", "conditioned picture"): Rate(0.2, *SD15, measured=False),
}
WITHOUT_UNET = {  # seconds a unit, and whether they were measured (in the demo on two Xeon cores, 2026-12-01)
    "photo": (4.0, True),
    "score": (0.18, True),
    "report": (2.0, False),
    "file": (1.0, False),
}


def usual_seconds(device: str, kind: str, parameters: int, pixels: int) -> tuple[float, str] | None:
    """Seconds a unit, and where they are from; None where nothing is known.

    "documented rates" were measured for a UNet and pictures of about this size; "estimated" is what is scaled from them
    in proportion to both, was measured on another device, or was never measured.
    """
    if kind in WITHOUT_UNET:
        seconds, measured = WITHOUT_UNET[kind]
        return seconds, DOCUMENTED if measured and device == "cpu" else ESTIMATED
    rate = RATES.get((device, kind))
    if rate is None:
        return None
    scale = parameters / rate.parameters * pixels / rate.pixels
    as_measured = rate.measured and 1 / SAME_SIZE <= scale <= SAME_SIZE
    return rate.seconds * scale, DOCUMENTED if as_measured else ESTIMATED


def device_name(device: torch.device) -> str:
    """What a timing is of."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}-{os.cpu_count()}"


def work_key(*described: Any) -> str:
    """What names a kind of work: what takes longer has another name."""
    return hash_bytes(canonical_json(described))[:32]


class Timings:
    """Seconds a unit by kind of work."""

    def __init__(self, file: Path | None = None) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.file = file or cache / "limner" / "timings.json"

    def read(self) -> dict[str, float]:
        """All that are known; none where the file is absent or damaged."""
        try:
            kept = json.loads(self.file.read_text(encoding="utf-8"))
            return {str(key): float(seconds) for key, seconds in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def note(self, key: str, seconds_per_unit: float) -> None:
        """Remember the newest; a cache that cannot be written is no failure of the work."""
        kept = {name: seconds for name, seconds in self.read().items() if name != key}
        newest = [*kept.items(), (key, seconds_per_unit)][-MOST_KEPT:]
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, dict(newest))
        except Exception:  # no disk, no permission
            return
