"""One Markdown table of ours beside the peer's, and the same as JSON lines."""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.records import Record

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "bitsandbytes", "triton", "numpy")
GIB = 2**30
OURS = "ours"


@dataclass(frozen=True)
class Figure:
    """One side of a row: seconds (one for each window or repeat), warm-up, memory; None stands for not measured."""

    seconds: tuple[float, ...]
    warm_up_seconds: float | None = None
    command_seconds: float | None = None
    reserved_bytes: int | None = None
    context_bytes: int | None = None
    resident_bytes: int | None = None
    predicted_bytes: int | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One piece of work."""

    work: str
    ours: Figure | None
    peer: Figure | None
    unit: str = "ms"  # or "s"
    note: str = ""
    split: dict[str, float] | None = None


def figure(record: Record, seconds: Sequence[float], warm_up_seconds: float | None, note: str = "") -> Figure:
    """A figure from a process's record."""
    names = ("reserved_bytes", "context_bytes", "resident_bytes", "predicted_bytes")
    memory = {name: getattr(record, name) for name in names}
    return Figure(tuple(seconds), warm_up_seconds, record.ended - record.started, note=note, **memory)


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The table without empty columns, with a line on where and when, the notes, and the kernel-time splits."""
    columns = [column for column in _columns(rows) if any(column[1:]) or column[0] == OURS]
    head, *body = zip(*columns, strict=True)
    lines = [f"## {title}", "", machine_line(), "", _line(head), "|" + "---|" * len(head), *map(_line, body)]
    lines += ["", *(f"- {note}" for note in _notes(rows))]
    for row in rows:
        if row.split:
            lines += ["", f"GPU time of {row.work}, ours: {_split(row.split)}"]
    return "\n".join(lines) + "\n"


def _columns(rows: Sequence[Row]) -> list[list[str]]:
    """Each column's head and cells; the peer's are empty where none was measured at all."""
    peers = any(row.peer for row in rows)
    return [
        ["work", *(row.work for row in rows)],
        [OURS, *(_time(row.ours, row.unit) for row in rows)],
        ["peer", *(_time(row.peer, row.unit) if peers else "" for row in rows)],
        ["peer / ours", *(_ratio(row) for row in rows)],
        ["peak memory, ours", *(_memory(row.ours) for row in rows)],
        ["predicted", *(_predicted(row.ours) for row in rows)],
        ["peak memory, peer", *(_memory(row.peer) for row in rows)],
        ["warm-up, ours", *(_warm_up(row.ours) for row in rows)],
        ["warm-up, peer", *(_warm_up(row.peer) for row in rows)],
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _notes(rows: Sequence[Row]) -> list[str]:
    """Every note once, with the rows that it is of where it is not of all."""
    owners: dict[str, list[str]] = {}
    for row in rows:
        sides = (("ours", row.ours), ("peer", row.peer))
        for note in filter(None, (row.note, *(f"{whose}: {side.note}" for whose, side in sides if side and side.note))):
            owners.setdefault(note, []).append(row.work)
    return [note if len(works) == len(rows) else f"{'; '.join(works)}: {note}" for note, works in owners.items()]


def append_json(path: Path, table: str, rows: Sequence[Row]) -> None:
    """One JSON line for each row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"table": table, "machine": machine()}
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(made | asdict(row), ensure_ascii=False) + "\n")


def machine() -> dict[str, Any]:
    """Device, processor, versions and date."""
    import torch

    from limner.artifacts import installed_versions

    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processor": processor(),
        "python": platform.python_version(),
        "versions": installed_versions(PACKAGES),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def processor() -> str:
    """What the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine_line() -> str:
    """One line of `machine()`."""
    there = machine()
    versions = ", ".join(f"{name} {version}" for name, version in there["versions"].items())
    return f"{there['gpu'] or there['processor']}; Python {there['python']}, {versions}; {there['date']}."


def _time(side: Figure | None, unit: str) -> str:
    if side is None:
        return "not measured"
    factor, digits = (1000, 1) if unit == "ms" else (1, 3 if side.median < 10 else 1)
    shown = f"{side.median * factor:.{digits}f} {unit}"
    if len(side.seconds) > 1:
        shown += f" [{min(side.seconds) * factor:.{digits}f} … {max(side.seconds) * factor:.{digits}f}]"
    return shown


def _ratio(row: Row) -> str:
    return f"{row.peer.median / row.ours.median:.1f}" if row.ours and row.peer else ""


def _predicted(side: Figure | None) -> str:
    """The predicted reserved memory, and its ratio to the measured one."""
    if side is None or side.predicted_bytes is None:
        return ""
    share = f", {side.predicted_bytes / side.reserved_bytes:.2f} of it" if side.reserved_bytes else ""
    return f"{side.predicted_bytes / GIB:.2f} GiB{share}"


def _memory(side: Figure | None) -> str:
    if side is None:
        return ""
    if side.reserved_bytes is None:
        return f"{side.resident_bytes / GIB:.2f} GiB resident" if side.resident_bytes else ""
    context = f" + {side.context_bytes / GIB:.2f} context" if side.context_bytes else ""
    return f"{side.reserved_bytes / GIB:.2f} GiB{context}"


def _warm_up(side: Figure | None) -> str:
    return "" if side is None or side.warm_up_seconds is None else f"{side.warm_up_seconds:.1f} s"


def _split(split: dict[str, float]) -> str:
    total = sum(split.values())
    shares = ", ".join(f"{kind} {ms:.2f}" for kind, ms in split.items() if ms >= 0.005 * total)
    return f"{total:.2f} ms in kernels: {shares}."
