"""Measures peak memory, to compare with the prediction of `limner.memory`, each case in a separate process.

`python -m bench.peaks RECORD CASE BASE --work FOLDER` measures one case.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import studies
from bench.pictures import write_pictures
from bench.pieces import Notices, forget_peak, make_pictures, ready, rendering_base, synchronize, training_base
from bench.processes import run_module
from bench.records import Record, memory_used
from bench.table import Figure, Row, figure
from bench.tables import SWEEP_RANKS, Bench, attempt
from limner.base import Base, find_base, placed
from limner.base.devices import choose_device
from limner.config import Study, VariantRun, expand_variants
from limner.memory import Parts, StagePeak, read_shapes, train_peak
from limner.memory.prediction import render_peak
from limner.rendering import Recipe, render_validation
from limner.training import Training, encode_pictures

STARTED = time.time()
STEPS, RENDER_BATCH = 3, 16
RECIPE = Recipe("ddim", 4, 7.0)
LOW = {"gradient_checkpointing": True, "prior_preservation": False}
FULL, LORA = {"method": "full"}, {"method": "lora", "rank": [16]}
EIGHT_BIT = {"optimizer": "adamw8bit"}
VALIDATION = {"every_steps": 1, "count": 4}


@dataclass(frozen=True)
class Case:
    """What is measured: a variant's training (what is left out is limner's default), renders or encoding."""

    name: str
    kind: str  # "train", "render" or "encode"
    variant: dict[str, Any] = field(default_factory=lambda: LORA | LOW)
    memory: dict[str, Any] = field(default_factory=lambda: {"offload": True, "vae_batch_size": 1})


CASES = {
    "full-low": Case("DreamBooth, least memory", "train", FULL | LOW | EIGHT_BIT | {"master_weights": "none"}),
    "lora-low": Case("LoRA of rank 16, least memory", "train"),
    "full": Case("DreamBooth, default settings", "train", FULL),
    "lora": Case("LoRA of rank 16, default settings", "train", LORA),
    "seven-ranks": Case("seven ranks together", "train", LORA | {"rank": list(SWEEP_RANKS)}),
    "full-low-exact": Case("DreamBooth, least memory but for exact weights", "train", FULL | LOW | EIGHT_BIT),
    "full-4": Case("DreamBooth, 8-bit moments, batch 4 + 4", "train", FULL | EIGHT_BIT | {"batch_size": 4}),
    "full-2": Case("DreamBooth, batch 2 + 2", "train", FULL | {"batch_size": 2}),
    "lora-pictures": Case("LoRA of rank 16, pictures while training", "train", LORA | {"validation": VALIDATION}),
    "render": Case("pictures, batches of 16", "render", memory={"vae_batch_size": 4}),
    "render-offload": Case(
        "pictures, batches of 16, parts taking turns", "render", memory={"offload": True, "vae_batch_size": 4}
    ),
    "encode": Case("encoding photos, 8 at once", "encode", memory={"offload": True, "vae_batch_size": 8}),
}


def peaks(bench: Bench) -> list[Row]:
    """A row for each case."""
    note = "seconds are the whole process's; the prediction is for a GPU"
    return [Row(case.name, attempt(partial(_measured, bench, name)), None, "s", note) for name, case in CASES.items()]


def _measured(bench: Bench, name: str) -> Figure:
    folder = bench.fresh(f"peak-{name}")
    arguments = [name, bench.ground.base, "--work", folder, "--device", bench.ground.device]
    record = run_module("bench.peaks", folder / "record.json", arguments)
    return figure(record, [record.ended - record.started], None, record.note)


def study_of(case: Case, size_px: int) -> Study:
    """The study that the case is of."""
    render = {"prompts": [{"name": "photo", "prompt": "a photo of {subject}"}], "size": [size_px, size_px]}
    tables = {
        "subject": {"photos": "photos", "class_noun": studies.CLASS_NOUN},
        "prepare": {"size_px": size_px},
        "class_images": {"count": studies.CLASS_IMAGES},
        "variants": [case.variant],
        "render": render | {"steps": RECIPE.steps, "batch_size": RENDER_BATCH, "seeds": list(range(2 * RENDER_BATCH))},
        "memory": case.memory,
    }
    return Study.model_validate(tables)


def train(path: Path, work: Path, device: torch.device, study: Study, parts: Parts, notices: Notices) -> StagePeak:
    """Three captured steps, as a study takes them."""
    runs, size_px = expand_variants(study.variants), study.prepare.size_px
    base = training_base(path, device)
    with ready(runs, base, size_px, notices) as prepared:
        for _ in range(STEPS):
            prepared.step()
        synchronize(device)
        if runs[0].variant.validation.every_steps:
            _validate(base, prepared.training, study, runs[0])
    return train_peak(max(runs, key=lambda run: run.rank or 0), study, parts, stacked=len(runs))


def _validate(base: Base, training: Training, study: Study, run: VariantRun) -> None:
    prompts, size = ["a cat"] * run.variant.validation.count, study.render.size
    at_once = study.memory.vae_batch_size
    with torch.no_grad(), training.trainable.only(0), placed(base, "text_encoder", "vae"):
        render_validation(base, prompts, 0, recipe=RECIPE, size=size, vae_batch_size=at_once)


def render(path: Path, work: Path, device: torch.device, study: Study, parts: Parts, notices: Notices) -> StagePeak:
    """Two batches through the grid."""
    base = rendering_base(path, device, waiting=study.memory.offload)
    forget_peak(device)
    make_pictures(base, work / "grid", RECIPE, 2 * RENDER_BATCH, RENDER_BATCH, study.memory, notices)
    return render_peak(study, parts)


def encode(path: Path, work: Path, device: torch.device, study: Study, parts: Parts, notices: Notices) -> StagePeak:
    """Drawn photos through the VAE."""
    size_px = study.prepare.size_px
    files = sorted(write_pictures(work / "photos", studies.PHOTOS, size_px).iterdir())
    base, at_once = training_base(path, device), study.memory.vae_batch_size
    size = (size_px, size_px)
    encode_pictures(base, files, size, flip=False, base_hash="random", cache=work / "cache", at_once=at_once)
    return train_peak(expand_variants(study.variants)[0], study, parts)


MEASURERS = {"train": train, "render": render, "encode": encode}


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(prog="python -m bench.peaks", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("base", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for what the case writes")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    case, device, notices = CASES[options.case], choose_device(options.device), Notices()
    parts = Parts(read_shapes(find_base(str(options.base))), photo_count=studies.PHOTOS)
    study = study_of(case, parts.shapes.native_size[0])
    peak = MEASURERS[case.kind](options.base, options.work, device, study, parts, notices)
    synchronize(device)
    note = "; ".join(notices.said)
    record = Record(STARTED, time.time(), [], predicted_bytes=peak.bytes, note=note, **memory_used())
    record.write(options.record)


if __name__ == "__main__":
    main()
