"""Commands on files of models: inspect, convert, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from limner.cli.options import Device, Json, Precision, device_named, dtype_named, print_path
from limner.errors import InputError


def inspect(
    path: Annotated[Path, typer.Argument(help="File or folder of a model.", show_default=False)],
    json_output: Json = False,
) -> None:
    """What a file is: family, prediction type, precision, problems; read from its header alone.

    Example: `limner inspect downloads/dreamlike.safetensors --json`
    """
    from limner.base.inspect import inspect as inspect_model

    report = inspect_model(path)
    print(json.dumps(report.to_json(), indent=2, ensure_ascii=False) if json_output else "\n".join(report.lines()))
    if not report.is_identified:
        raise typer.Exit(InputError.exit_code)


def convert(
    source: Annotated[Path, typer.Argument(help="A single file or a diffusers folder.", show_default=False)],
    destination: Annotated[Path, typer.Argument(help="NAME.safetensors, or a new folder.", show_default=False)],
    precision: Precision = "",
    vae: Annotated[Path | None, typer.Option(help="A VAE's file or folder, in place of the base's own.")] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Use the moving averages that some files contain.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read .ckpt and .bin, in a separate process.")
    ] = False,
    json_output: Json = False,
) -> None:
    """An SD 1.5 base from a single file to a diffusers folder, or back; bit for bit unless --precision is given.

    Example: `limner convert downloads/dreamlike.safetensors bases/dreamlike`
    """
    from limner.base.convert import convert as convert_base

    convert_base(source, destination, dtype=dtype_named(precision), vae=vae, ema=ema, allow_pickle=allow_pickle)
    print_path("written", destination, json_output)


def export(
    adapter: Annotated[Path, typer.Argument(help="RUN/adapters/VARIANT, or somebody's LoRA.", show_default=False)],
    destination: Annotated[Path, typer.Argument(help="New file or folder.", show_default=False)],
    form: Annotated[str, typer.Option("--format", help="diffusers, kohya, merged or single-file.")],
    base: Annotated[str, typer.Option(help="Base of the adapter, if its run's folder does not say.")] = "",
    strength: Annotated[float, typer.Option(help="Strength at which a LoRA is merged.")] = 1.0,
    precision: Precision = "",
    legacy_bin: Annotated[bool, typer.Option("--bin", help="A pickled .bin, for old programs.")] = False,
    steps: Annotated[int, typer.Option(help="Denoising steps of the check; 0: as in the study.")] = 0,
    no_render: Annotated[bool, typer.Option("--no-render", help="Do not render a cell again as a check.")] = False,
    device: Device = "auto",
    json_output: Json = False,
) -> None:
    """A result as other programs read it: diffusers, kohya's keys for A1111, ComfyUI and Forge, or a whole model.

    One cell is then rendered with it through diffusers, and how far that is from limner's own is printed.

    Example: `limner export runs/demo/adapters/lora-16 felix.safetensors --format kohya`
    """
    from limner.exporting import export as export_adapter
    from limner.exporting.check import render_again

    where = device_named(device)
    source, exported = export_adapter(
        adapter, destination, form,
        base=base, dtype=dtype_named(precision), strength=strength, legacy_bin=legacy_bin,
    )  # fmt: skip
    proof = None if no_render or not source.base_name else render_again(source, exported, steps=steps, device=where)
    if json_output:
        print(json.dumps({"written": str(destination), "difference": vars(proof) if proof else None}))
        return
    print(f"written: {destination}")
    print(proof or "not rendered again" + ("" if no_render else ": its base is not known; name it with --base"))


COMMANDS = (inspect, convert, export)
