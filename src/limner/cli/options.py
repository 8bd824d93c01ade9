"""Options that several commands have, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Precision = Annotated[str, typer.Option(help="fp32, fp16 or bf16; unchanged if left out.")]


def print_path(what: str, path: Path, as_json: bool) -> None:
    """Say where a result is."""
    print(json.dumps({what: str(path)}) if as_json else f"{what}: {path}")


def device_named(name: str) -> Any:
    """The device of --device. Raises InputError for one that is not there."""
    from limner.base.devices import choose_device

    return choose_device(name)


def dtype_named(precision: str) -> Any:
    """The type of --precision, None where it was left out. Raises InputError for an unknown name."""
    from limner.base.devices import dtype_named

    return dtype_named(precision)
