"""What this machine can do, and the GPU memory that a study will take: told before any weight is loaded."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from limner.base import find_base
from limner.base.devices import (
    bf16_instructions,
    device_memory_gib,
    multiplies_in_bf16,
    rendering_dtype,
    training_dtype,
)
from limner.base.find import MINIATURE
from limner.config import Measure
from limner.embeddings.find import BASE, find_embedder
from limner.errors import InputError
from limner.kernels.attention_amx import has_tiles
from limner.memory import as_setting, faults, needed_gib, predict
from limner.opening import checked_study, fit_to_memory

PACKAGES = ("torch", "triton", "diffusers", "transformers")
EXTRAS = {"tensorboard": "tensorboard", "wandb": "wandb", "heif": "pillow_heif"}
SMALL_DISK_GIB = 20


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says: for people, for programs, and what is wrong."""

    lines: list[str]
    record: dict[str, Any]
    faults: list[str] = field(default_factory=list)


def examine(device: torch.device) -> Diagnosis:
    """The machine, and advice in plain words."""
    record = {
        "device": _device_record(device),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "cuda": torch.version.cuda,
        "processor": _processor_record(),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "hub_cache": _hub_cache(),
        "extras": {extra: importlib.util.find_spec(module) is not None for extra, module in EXTRAS.items()},
        "measuring": {name: _is_on_this_machine(name) for name in _measuring_models()},
    }
    advice = list(_advice(record))
    return Diagnosis([*_lines(record), *advice], record | {"advice": advice})


def predict_memory(source: Path, device: torch.device, memory: str = "") -> Diagnosis:
    """The peak of each stage on a GPU, with what was chosen so that it fits; faults are stages that have no room."""
    opened = fit_to_memory(checked_study(source), device, memory)
    parts = opened.parts
    peaks = predict(opened.study, parts)
    limit = opened.limit_gib
    too_large = faults(opened.study, parts, limit) if limit is not None else []
    chosen = {path: _value(opened.study, path) for path, origin in opened.origins.items() if origin == "memory"}
    card = f"a card of {limit:g} GiB" if limit is not None else "a GPU (this machine has none that limner can use)"
    lines = [f"{source} on {card}; GiB that torch will reserve at the peak of each stage:"]
    lines += [f"  {peak.name:<28} {peak.gib:6.1f}   {_of_what(peak.parts)}" for peak in peaks]
    lines.append(f"the whole study needs a card of {needed_gib(max(peak.bytes for peak in peaks))} GiB")
    lines += [
        f"chosen to fit: {as_setting(path, value)}" for path, value in chosen.items() if path != "memory.budget_gib"
    ]
    lines += [f"does not fit: {fault}" for fault in too_large]
    record = {
        "study": str(source),
        "limit_gib": limit,
        "stages": [{"stage": p.stage, "label": p.label, "peak_bytes": p.bytes, "parts": p.parts} for p in peaks],
        "chosen": chosen,
        "faults": too_large,
    }
    return Diagnosis(lines, record, too_large)


def _processor_record() -> dict[str, Any]:
    record = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), **bf16_instructions()}
    return record | ({"kernels_in_c": has_tiles()} if record.get("amx_bf16") else {})


def _device_record(device: torch.device) -> dict[str, Any]:
    record: dict[str, Any] = {"type": device.type, "memory_gib": device_memory_gib(device)}
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        record |= {
            "name": torch.cuda.get_device_name(device),
            "capability": capability,
            "free_gib": round(free / 2**30, 1),
        }
    trains, renders = training_dtype("auto", device), rendering_dtype("auto", device)
    if multiplies_in_bf16("auto", device):
        record["multiplies_in"] = "bfloat16"
    return record | {"trains_in": str(trains).removeprefix("torch."), "renders_in": str(renders).removeprefix("torch.")}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hub_cache() -> dict[str, Any]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    return {"folder": str(folder), "models": len(list(folder.glob("models--*"))) if folder.is_dir() else 0}


def _measuring_models() -> list[str]:
    defaults = Measure()
    return [*defaults.likeness, defaults.prompt_fidelity, "efficientnet-lite0", BASE]


def _is_on_this_machine(name: str) -> bool:
    """Whether a measuring model is on this machine; "base" is asked of the miniature. Nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    if "/" in name:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    try:
        find_embedder(name, find_base(MINIATURE))
    except InputError:
        return False
    return True


def _lines(record: dict[str, Any]) -> Iterator[str]:
    device, processor = record["device"], record["processor"]
    named = device.get("name", device["type"])
    size = f", {device['memory_gib']:g} GiB ({device['free_gib']:g} free)" if device["memory_gib"] else ""
    yield f"device: {named}{size}; trains in {device['trains_in']}, renders in {device['renders_in']}"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    yield f"software: {versions}, CUDA {record['cuda'] or 'not built in'}"
    instructions = [name for name in ("avx512_bf16", "amx_bf16") if processor.get(name)]
    compiled = {True: ", with kernels in C", False: ", without kernels in C"}.get(processor.get("kernels_in_c"), "")
    yield f"processor: {processor['cores']} cores, bf16 instructions: {', '.join(instructions) or 'none'}{compiled}"
    cache = record["hub_cache"]
    yield f"disk: {record['disk_free_gib']:g} GiB free here; {cache['models']} models in {cache['folder']}"
    yield "extras: " + ", ".join(f"{name} {_yes(present)}" for name, present in record["extras"].items())
    yield "measuring models: " + ", ".join(f"{name} {_yes(present)}" for name, present in record["measuring"].items())


def _advice(record: dict[str, Any]) -> Iterator[str]:
    device = record["device"]
    if device["type"] == "cpu":
        yield "advice: without a GPU the miniature trains in minutes (limner demo) and SD 1.5 in days"
        if record["processor"].get("kernels_in_c") is False:
            yield "advice: with a C compiler (cc) for limner's kernels this processor trains a third faster"
    elif device["memory_gib"]:
        yield f"advice: limner doctor STUDY.toml says whether a study fits these {device['memory_gib']:g} GiB"
        if device["free_gib"] < device["memory_gib"] - 1.5:
            yield "advice: other programs hold GPU memory; end them, or give what is left with --memory"
    if record["disk_free_gib"] < SMALL_DISK_GIB:
        yield f"advice: a DreamBooth training of SD 1.5 keeps about {SMALL_DISK_GIB} GiB of states; free some disk"
    for name, present in record["measuring"].items():
        if not present and "/" in name:
            yield f"advice: to measure with {name} without a network later, run once: hf download {name}"


def _yes(present: bool) -> str:
    return "found" if present else "not found"


def _of_what(parts: dict[str, int]) -> str:
    return ", ".join(f"{what} {size / 2**30:.1f}" for what, size in parts.items() if size >= 2**30 / 20)


def _value(study: Any, path: str) -> Any:
    for step in path.split("."):
        study = study[int(step)] if isinstance(study, list) else getattr(study, step)
    return study
