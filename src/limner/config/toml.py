"""Tables as the text of a study file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml_text(tables: Mapping[str, Any]) -> str:
    """TOML of nested tables whose values are text, numbers, booleans and lists of these."""
    return "\n".join(_lines(tables)).lstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], path: str = "") -> list[str]:
    """Plain values first, then tables as [name] and lists of tables as [[name]]."""
    lines = [f"{name} = {_value(value)}" for name, value in table.items() if not _is_table(value)]
    for name, value in table.items():
        full = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            lines += ["", f"[{full}]", *_lines(value, full)]
        elif _is_table(value):
            for row in value:
                lines += ["", f"[[{full}]]", *_lines(row, full)]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _value(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's, but for a character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
