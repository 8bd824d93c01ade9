"""Trains one variant: photos (and class images) in, `adapters/VARIANT/` out, unfinished work in `work/VARIANT/`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from limner.adapters import load_trained, save_adapter
from limner.artifacts import (
    AdapterFolder,
    ClassSet,
    Manifest,
    PhotoSet,
    file_hashes,
    is_current,
    machine_record,
    require_folder,
    require_space,
    stage_key,
    sweep_unfinished,
    whole_folder,
    write_manifest,
)
from limner.base import Base
from limner.config import Subject, VariantRun
from limner.errors import InputError, LimnerError
from limner.progress import SILENT, Progress
from limner.training import (
    LOG_FILE,
    EncodedPictures,
    Training,
    TrainingLog,
    Validate,
    encode_pictures,
    newest_checkpoint,
    read_log,
    remove_checkpoints,
    require_optimizer,
    require_trackers,
    set_up,
    take_steps,
    thinned,
)

STAGE, VERSION = "train", 1
CACHE = ".moments"  # beside the variants' folders in work/, which cannot start with a dot
NOT_READ = {"name", "training_seeds", "start_from", "validation", "checkpoint_every_steps", "log_to"}
RUNS_OWN = {"rank", "alpha", "alpha_rule"}
# Rounding whole weights of SD 1.5's spread (0.03) to fp16 changes 1.4% of the root mean square of what 800 steps at
# 2e-6 added to them, without direction; fp32 would double 2 GB, and renders on a GPU compute in fp16 anyway.
FULL_DTYPE = torch.float16
BYTES_PER_PARAMETER = 12  # of a state on disk: weight and two moments, fp32


def train(
    run: VariantRun,
    base: Callable[[], Base],
    base_hash: str,
    subject: Subject,
    photo_set: PhotoSet,
    class_set: ClassSet | None,
    start: AdapterFolder | None,
    out: Path,
    work: Path,
    *,
    validate: Validate | None = None,
    progress: Progress = SILENT,
) -> AdapterFolder:
    """Train the variant `run` and write its adapter to `out` (adapters/LABEL), which must lie beside `start`.

    Interrupted, `work` (work/LABEL) keeps a state that the same call goes on from; the step log and validation
    pictures stay there. `base_hash` stands for everything of the base that is trained on: weights, VAE, clip skip.
    Raises InputError, before any weight is loaded, when class images are wanted and absent, when the start does not
    fit, or when a package that was asked for is missing.
    """
    of_class = _class_images(run, class_set)
    _require_start(run, start, out)
    settings, inputs = _read_settings(run, subject, of_class), _inputs(base_hash, photo_set, of_class, start)
    key = stage_key(STAGE, VERSION, settings, inputs)
    if is_current(out, key):
        return AdapterFolder(out)
    require_optimizer(run.variant.optimizer)
    require_trackers(run.variant.log_to)
    for folder in (out, work):
        require_folder(folder)
    sweep_unfinished(work)
    loaded = base()
    groups = _encode(run, loaded, base_hash, photo_set, of_class, work, progress)
    prompts = [settings["instance_prompt"]] + ([settings["class_prompt"]] if of_class else [])
    beginning = load_trained(start) if start else None
    with set_up(run, loaded, subject, prompts, *groups, beginning, progress) as training:
        _go_on(training, run.label, work, key, progress)
        with TrainingLog(work, run.label, run.variant.log_to, training.step) as log:
            take_steps(training, label=run.label, work=work, key=key, log=log, validate=validate, progress=progress)
        _deliver(training, run, start, Manifest(STAGE, VERSION, key, settings, inputs), out, work)
    remove_checkpoints(work)
    return AdapterFolder(out)


def _class_images(run: VariantRun, class_set: ClassSet | None) -> ClassSet | None:
    if not run.variant.prior_preservation:
        return None
    if class_set is None or not class_set.files:
        raise InputError(
            f"{run.label}: prior_preservation = true needs class images and there are none; "
            "set class_images.count above 0, or prior_preservation = false"
        )
    return class_set


def _require_start(run: VariantRun, start: AdapterFolder | None, out: Path) -> None:
    if start is None:
        return
    method, rank = start.record["method"], start.record["rank"]
    fault = ""
    if start.folder.resolve().parent != out.resolve().parent:
        fault = f"lies at {start.folder}, not beside {out}"
    elif run.variant.method == "full" and method == "lora":
        fault = 'is a LoRA, and a full variant can only start from a full one; use method = "lora"'
    elif run.variant.method == "lora" and method == "lora" and (run.rank, run.alpha) != (rank, start.record["alpha"]):
        fault = (
            f"has rank {rank} and alpha {start.record['alpha']:g}, this variant {run.rank} and {run.alpha:g}; "
            "a LoRA can only be trained further at its own"
        )
    if fault:
        raise InputError(f'{run.label}: start_from "{start.folder.name}" {fault}')


def _read_settings(run: VariantRun, subject: Subject, of_class: ClassSet | None) -> dict[str, Any]:
    unread = NOT_READ | RUNS_OWN | (set() if of_class else {"prior_loss_weight"})
    settings = run.variant.model_dump(mode="json", exclude=unread)
    own = {"rank": run.rank, "alpha": run.alpha, "training_seed": run.training_seed}
    prompts = {"instance_prompt": subject.fill(run.variant.instance_prompt)}
    if of_class:
        prompts["class_prompt"] = subject.fill(of_class.prompt)
    return settings | own | prompts


def _inputs(
    base_hash: str, photo_set: PhotoSet, of_class: ClassSet | None, start: AdapterFolder | None
) -> dict[str, Any]:
    return {
        "base": base_hash,
        "photos": photo_set.content_hash,
        "class_images": of_class.content_hash if of_class else None,
        "start": start.content_hash if start else None,
    }


def _encode(
    run: VariantRun,
    base: Base,
    base_hash: str,
    photo_set: PhotoSet,
    of_class: ClassSet | None,
    work: Path,
    progress: Progress,
) -> tuple[EncodedPictures, EncodedPictures | None]:
    """Both groups' pictures; only photos are flipped. What is encoded is shared by all variants of the run."""

    def encoded(files: list[Path], flip: bool) -> EncodedPictures:
        return encode_pictures(
            base.vae, files, photo_set.size_px, flip=flip, base_hash=base_hash, cache=work.parent / CACHE,
            progress=progress,
        )  # fmt: skip

    return encoded(photo_set.files, run.variant.flip), encoded(of_class.files, False) if of_class else None


def _go_on(training: Training, label: str, work: Path, key: str, progress: Progress) -> None:
    """Resume from the newest whole state of this training, else begin with an empty folder."""
    checkpoint = newest_checkpoint(work, key, progress)
    if checkpoint is not None:
        training.resume(checkpoint)
        progress.notice(f"{label}: going on after step {checkpoint.step} of {training.variant.steps}")
        return
    remove_checkpoints(work)
    (work / LOG_FILE).unlink(missing_ok=True)
    every = training.variant.checkpoint_every_steps
    states = 3 if every and training.variant.steps > every else 1  # two are kept while a third is written
    averaged = 4 if training.average else 0
    require_space(work, states * training.trainable.count * (BYTES_PER_PARAMETER + averaged))


def _deliver(
    training: Training, run: VariantRun, start: AdapterFolder | None, manifest: Manifest, out: Path, work: Path
) -> None:
    """Write the adapter whole; should that fail, the finished training's state stays in `work`."""
    content = _record(training, run, start, work)
    try:
        with training.delivered():
            adapter = training.trainable.adapter(run.label, FULL_DTYPE)
        with whole_folder(out) as folder:
            save_adapter(folder, adapter)
            made = machine_record() | {"device": str(training.alphas.device), "arithmetic": str(training.dtype)}
            write_manifest(folder, replace(manifest, files=file_hashes(folder), made=made, content=content))
    except BaseException:
        with contextlib.suppress(LimnerError, OSError):
            training.keep(work, manifest.key)
        raise


def _record(training: Training, run: VariantRun, start: AdapterFolder | None, work: Path) -> dict[str, Any]:
    log = read_log(work / LOG_FILE)
    return {
        "label": run.label,
        "method": run.variant.method,
        "rank": run.rank,
        "alpha": run.alpha,
        "scale": run.alpha / run.rank if run.alpha and run.rank else None,
        "training_seed": run.training_seed,
        "steps": run.variant.steps,
        "start_from": {"label": start.folder.name, "content_hash": start.content_hash} if start else None,
        "trainable_parameters": training.trainable.count,
        "seconds": training.seconds,
        "seconds_per_step": training.seconds / run.variant.steps,
        "final_loss": log[-1]["loss"] if log else None,
        "log": thinned(log),
    }
