"""The table of a whole coursework on a GPU."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from bench import studies
from bench.table import Figure, Row, figure, machine
from bench.tables import Bench


def coursework(bench: Bench, results: Path) -> list[Row]:
    """Everything of one coursework, ours as one command; the peer's is put together from the other tables' figures."""
    references = bench.ground.work / "references"
    tables = studies.coursework_tables(bench.ground, references)
    record = bench.run_ours("coursework", tables, what="control", task="train", every=100)
    ours = figure(record, [record.ended - record.started], None, record.note)
    note = (
        "500 class images, DreamBooth 800 steps, LoRA 2/16/128 500 steps each, 36 renders, 12 ControlNet renders; "
        "ours renders the untouched base as well, 9 and 3 more"
    )
    return [Row("a whole coursework", ours, composed_peer(results, machine()["gpu"]), "s", note)]


def composed_peer(results: Path, gpu: str | None) -> Figure | None:
    """What the peer needs for the same, from the newest figures of this GPU in `results`; None when one is missing."""
    known = _newest(results, gpu)
    steps = {
        "DreamBooth step, batch 1 + 1": 800,
        "LoRA step, rank 16, batch 1": 3 * 500,
        "a picture of 768x512, batch": 36,
        "a ControlNet picture, batch": 12,
        "500 class images": 1,
    }
    seconds = {}
    for work, count in steps.items():
        found = [statistics.median(peer["seconds"]) for name, peer in known.items() if name.startswith(work)]
        if not found:
            return None
        seconds[work] = count * min(found)
    shown = ", ".join(f"{work.removesuffix(', batch')} {value:.0f} s" for work, value in seconds.items())
    return Figure((sum(seconds.values()),), note=f"steady rates times counts, without loading and saving: {shown}")


def _newest(results: Path, gpu: str | None) -> dict[str, Any]:
    """The peer's newest figure of each row that was measured on `gpu`."""
    if not results.exists():
        return {}
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return {row["work"]: row["peer"] for row in rows if row["peer"] and row["machine"]["gpu"] == gpu}
