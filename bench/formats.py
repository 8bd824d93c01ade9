"""Converting, exporting and reloading a base and a LoRA in SD 1.5's shapes: time and peak memory of each command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.table import Figure, Row
from limner.adapters import Adapter, LowRankUpdates, save_adapter, target_layers
from limner.adapters.low_rank import LowRankUpdate, initial_update
from limner.artifacts import Manifest, file_hashes, whole_folder, write_manifest
from limner.base import find_base
from limner.base.single_file.names import WEIGHT_PARTS
from limner.base.weights.streaming import TensorFile
from limner.memory import read_shapes
from limner.records import AdapterRecord

RANK = 16
COPY = """
import os, shutil, sys
*sources, target = sys.argv[1:]
with open(target, "wb") as out:
    for source in sources:
        with open(source, "rb") as file:
            shutil.copyfileobj(file, out, 8 * 2**20)
    out.flush()
    os.fsync(out.fileno())
os.remove(target)
"""
LAUNCH = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime]))
"""  # in a process of a few MiB: a child's peak counts its parent's size at the fork
LOAD = """
import sys
from diffusers import StableDiffusionPipeline
pipeline = StableDiffusionPipeline.from_single_file(sys.argv[1], config=sys.argv[2], local_files_only=True)
pipeline.load_lora_weights(sys.argv[3])
"""


def formats(work: Path, base: Path, *, brief: bool = False) -> list[Row]:
    """One row a command, each in a process of its own; what they write is checked against what they read.

    `brief` leaves out rendering, which takes a processor minutes.
    """
    made = work / "formats"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    lora = write_lora(made / "adapters" / f"lora-{RANK}", base)
    single, folder, full = made / "single.safetensors", made / "folder", made / "fp32.safetensors"
    kohya, merged = made / "lora.safetensors", made / "merged.safetensors"
    limner = [sys.executable, "-m", "limner"]
    export = [*limner, "export", str(lora)]
    named = ["--base", str(base), "--device", "cpu"]
    commands = {
        "start Python and limner's convert alone": [sys.executable, "-c", "import limner.base.convert"],
        "copy the single file's bytes, with fsync": [sys.executable, "-c", COPY, *map(str, weight_files(base, made))],
        "inspect the folder": [*limner, "inspect", str(base)],
        "convert: folder to single file": [*limner, "convert", str(base), str(single)],
        "inspect the single file": [*limner, "inspect", str(single)],
        "convert: single file to folder": [*limner, "convert", str(single), str(folder)],
        "convert: to fp32": [*limner, "convert", str(single), str(full), "--precision", "fp32"],
        "export: LoRA to kohya's keys": [*export, str(kohya), "--format", "kohya", "--no-render", *named],
        "export: LoRA merged, single file": [*export, str(merged), "--format", "merged", "--no-render", *named],
        "diffusers loads both": [sys.executable, "-c", LOAD, str(single), str(folder), str(kohya)],
        "export and render again, 2 steps": [
            *export, str(made / "again.safetensors"), "--format", "kohya", "--steps", "2", *named,
        ],
    }  # fmt: skip
    if brief:
        commands.popitem()
    rows = [_row(what, command, made) for what, command in commands.items()]
    return [
        *rows,
        Row("weights that differ after both ways", None, None, note=f"{count_different(base, folder)} differ"),
    ]


def _row(what: str, command: Sequence[str], work: Path) -> Row:
    started = time.perf_counter()
    launched = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
    with (work / "log.txt").open("ab") as log:
        ended = subprocess.run(launched, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
    seconds = time.perf_counter() - started
    *said, last = ended.stdout.splitlines()
    code, peak_bytes, worked = json.loads(last)
    if code:
        raise SystemExit(f"{what}: ended with {code}; see {work / 'log.txt'}")
    proof = [line for line in said if line.startswith("rendered again")]
    note = "; ".join([f"{worked:.1f} s of processor time", *proof])
    return Row(what, Figure((seconds,), resident_bytes=peak_bytes), None, "s", note=note)


def weight_files(base: Path, work: Path) -> list[Path]:
    """What a single file is made of, and where a plain copy of it may go."""
    return [*(next((base / part).glob("*.safetensors")) for part in WEIGHT_PARTS), work / "copy.bin"]


def write_lora(folder: Path, base: Path) -> Path:
    """An adapter's folder with random updates of every transformer layer of the base."""
    shapes = read_shapes(find_base(str(base)))
    low_rank: dict[str, dict[str, LowRankUpdate]] = {}
    for module in ("unet", "text_encoder"):
        made = shapes.module(module, torch.float16)
        for index, name in enumerate(target_layers(made, "transformer")):
            fresh = initial_update(made.get_submodule(name), RANK, RANK / 2, 0, index)
            up = torch.randn(fresh.up.shape, generator=torch.Generator().manual_seed(index)) * 0.2
            low_rank.setdefault(module, {})[name] = LowRankUpdate(fresh.down, up, fresh.alpha)
    with whole_folder(folder) as temporary:
        save_adapter(temporary, Adapter.of(folder.name, LowRankUpdates(low_rank)))
        record = AdapterRecord(
            label=folder.name,
            method="lora",
            method_record={"rank": RANK, "alpha": RANK / 2},
            training_seed=None,
            steps=None,
            start_from=None,
        )
        write_manifest(temporary, Manifest("train", 1, "", {}, {}, file_hashes(temporary), record=record))
    return folder


def count_different(one: Path, other: Path) -> int:
    """How many weights of two diffusers folders differ in a bit or in their name."""
    count = 0
    for part in WEIGHT_PARTS:
        (first,), (second,) = ((folder / part).glob("*.safetensors") for folder in (one, other))
        with TensorFile(first) as left, TensorFile(second) as right:
            names = left.header.tensors.keys()
            count += len(names ^ right.header.tensors.keys())
            common = names & right.header.tensors.keys()
            count += sum(b"".join(left.pieces(name)) != b"".join(right.pieces(name)) for name in common)
    return count
