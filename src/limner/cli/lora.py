"""Commands on LoRAs: `limner lora extract|resize|merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from limner.cli.options import Json

app = typer.Typer(name="lora", help="Extract, resize and merge LoRAs.", no_args_is_help=True)

Destination = Annotated[Path, typer.Argument(help="New file, NAME.safetensors.", show_default=False)]
Rank = Annotated[int, typer.Option(min=1, help="Rank of the result.")]


@app.command()
def extract(
    full: Annotated[Path, typer.Argument(help="RUN/adapters/VARIANT, or a base's file or folder.", show_default=False)],
    destination: Destination,
    rank: Rank = 16,
    base: Annotated[str, typer.Option(help="The base it was made from, if its run's folder does not say.")] = "",
    targets: Annotated[str, typer.Option(help="attention, transformer or all.")] = "transformer",
    json_output: Json = False,
) -> None:
    """The LoRA nearest to what a full result changed of its base.

    Example: `limner lora extract runs/mine/adapters/dreambooth felix.safetensors --rank 32`
    """
    from limner.exporting import lora_tools

    _tell(lora_tools.extract(full, destination, rank, base=base, targets=targets), json_output)


@app.command()
def resize(
    lora: Annotated[Path, typer.Argument(help="A LoRA's file or folder.", show_default=False)],
    destination: Destination,
    rank: Rank = 16,
    json_output: Json = False,
) -> None:
    """A LoRA at a lower rank.

    Example: `limner lora resize big.safetensors small.safetensors --rank 8`
    """
    from limner.exporting import lora_tools

    _tell(lora_tools.resize(lora, destination, rank), json_output)


@app.command()
def merge(
    loras: Annotated[list[Path], typer.Argument(help="LoRAs, two or more.", show_default=False)],
    out: Annotated[Path, typer.Option(help="New file, NAME.safetensors.", show_default=False)],
    strength: Annotated[list[float] | None, typer.Option(help="One for each LoRA, in order; 1 if left out.")] = None,
    rank: Annotated[int, typer.Option(min=0, help="Rank of the result; 0 keeps everything exactly.")] = 0,
    json_output: Json = False,
) -> None:
    """Several LoRAs as one.

    Example: `limner lora merge felix.safetensors sketch.safetensors --strength 1 --strength 0.6 --out both.safetensors`
    """
    from limner.exporting import lora_tools

    _tell(lora_tools.merge(loras, strength or [], out, rank), json_output)


def _tell(made: Any, as_json: bool) -> None:
    record = {"written": str(made.path), "updates": made.updates, "error": made.error}
    print(json.dumps(record) if as_json else made)
