"""How long work takes: by what this machine did before (kept in the user's cache), else by the documented rates."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from limner.artifacts import canonical_json, hash_bytes, write_json

HERE, DOCUMENTED = "this machine", "documented rates"
MOST_KEPT = 500  # kinds of work

Rate = tuple[float, float, float]  # seconds a unit, of a UNet with so many parameters, at so many pixels
MINIATURE, SD15 = (11e6, 256 * 256), (860e6, 512 * 512)
RATES: dict[tuple[str, str], Rate] = {  # docs/performance.md: a laptop's processor with AMX, one H200
    ("cpu", "full"): (0.336, *MINIATURE),
    ("cpu", "lora"): (0.21, *MINIATURE),
    ("cpu", "picture"): (0.9, *MINIATURE),
    ("cuda", "full"): (0.025, *SD15),
    ("cuda", "lora"): (0.012, *SD15),
    ("cuda", "picture"): (0.149, *SD15),
}
FIXED = {"photo": 0.5, "score": 0.1, "report": 2.0}  # seconds a unit on any processor


def documented_seconds(device: str, kind: str, parameters: int, pixels: int) -> float | None:
    """Seconds a unit by the documented rates, in proportion to the UNet and the picture; None where there are none."""
    if kind in FIXED:
        return FIXED[kind]
    rate = RATES.get((device, kind))
    return rate and rate[0] * parameters / rate[1] * pixels / rate[2]


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
