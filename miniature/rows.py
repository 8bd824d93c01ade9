"""A row of the check's table: what was measured, its value, what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Row:
    """One figure. Without a target it is stated and nothing is asked of it."""

    what: str
    value: float
    target: float | None = None
    sense: Sense = "at least"
    note: str = ""
    """What else must be known to read the value: its spread, its counterpart."""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target

    def to_json(self) -> dict[str, Any]:
        """As it stands in a part's record."""
        return asdict(self) | {"met": self.met}


def row_from_json(record: dict[str, Any]) -> Row:
    """The row that `to_json` wrote."""
    return Row(**{name: value for name, value in record.items() if name != "met"})


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | value | target | met |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row.what} | {_value(row)} | {_target(row)} | {_met(row)} |" for row in rows])


def _value(row: Row) -> str:
    return f"{row.value:.4g}" + (f" ({row.note})" if row.note else "")


def _target(row: Row) -> str:
    return "stated" if row.target is None else f"{row.sense} {row.target:.4g}"


def _met(row: Row) -> str:
    return {None: "", True: "yes", False: "**no**"}[row.met]
