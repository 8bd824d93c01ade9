"""Trains variants, several in one pass: photos (and class images) in, `adapters/VARIANT/` out.

Unfinished work lies in `work/VARIANT/`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from limner.adapters import load_trained, save_adapter
from limner.artifacts import (
    MANIFEST,
    AdapterFolder,
    ClassSet,
    Manifest,
    PhotoSet,
    Specification,
    file_hashes,
    is_current,
    machine_record,
    require_folder,
    require_space,
    sweep_unfinished,
    whole_folder,
    write_manifest,
)
from limner.base import Base
from limner.config import Subject, VariantRun
from limner.diffusion.noise_schedule import alphas_cumprod
from limner.errors import InputError, LimnerError
from limner.methods import require_start
from limner.progress import SILENT, Progress
from limner.records import AdapterRecord, ChosenStep, StartRecord
from limner.stages.context import Context
from limner.stages.encoding import EncodedSet
from limner.training import (
    FULL_DTYPE,
    LOG_FILE,
    RULE_VERSION,
    Curve,
    HeldOutLoss,
    Training,
    TrainingLog,
    Validate,
    VariantInTraining,
    choose,
    drop_kept,
    newest_checkpoint,
    newest_step,
    open_curve,
    read_log,
    remove_checkpoints,
    require_trackers,
    set_up,
    take_steps,
    thinned,
)

STAGE, VERSION = "train", 1
CACHE = ".moments"  # beside the variants' folders in work/, which cannot start with a dot
NOT_READ = {"name", "training_seeds", "start_from", "validation", "checkpoint_every_steps", "log_to"}
BYTES_PER_PARAMETER = 12  # of a state on disk: weight and two moments, fp32


@dataclass(frozen=True)
class TrainingRequest:
    """One variant to be trained: where its adapter goes (adapters/LABEL) and where it is worked on (work/LABEL)."""

    run: VariantRun
    out: Path
    work: Path
    validate: Validate | None = None
    begin: Callable[[], None] | None = None  # called with the untouched base before training begins
    judged_by: Mapping[str, Any] | None = None  # what validations' scores depend on beside the settings


def train(
    orders: Sequence[TrainingRequest],
    context: Context,
    photo_set: PhotoSet,
    class_set: ClassSet | None,
    start: AdapterFolder | None,
    *,
    at_once: int | None = None,
) -> list[AdapterFolder]:
    """Train variants that can be trained in one pass (`config.stacks_of`); their adapters lie beside `start`.

    What is current is not trained again, and at most `at_once` are trained together. Interrupted, the work folders
    keep states that the same call goes on from; logs and validation pictures stay there. Raises InputError, before any
    weight is loaded, when class images are wanted and absent, when the start does not fit, or when a package that was
    asked for is missing. A variant without finite losses raises LimnerError after the others are whole.
    """
    of_class = _class_images(orders[0].run, class_set, photo_set)
    manifests = []
    for order in orders:
        require_start(order.run, start, order.out)
        of = specify_train(
            order.run, context.base_hash, context.subject, photo_set, of_class, start, judged_by=order.judged_by
        )
        manifests.append(Manifest.of(of))
    pending = [
        (order, manifest)
        for order, manifest in zip(orders, manifests, strict=True)
        if not is_current(order.out, manifest.key)
    ]
    if pending:
        require_trackers(orders[0].run.variant.log_to)
        training = TrainingInputs(context, photo_set, of_class, start)
        for together in _at_one_step([Pending(order, manifest) for order, manifest in pending], context.progress):
            for chunk in _in_equal_chunks(together, at_once or len(together)):
                _train_as_memory_allows(training, chunk)
                torch.cuda.empty_cache()  # what was captured took memory that nobody else can use
    return [AdapterFolder(order.out) for order in orders]


def specify_train(
    run: VariantRun,
    base_hash: str,
    subject: Subject,
    photo_set: PhotoSet,
    of_class: ClassSet | None,
    start: AdapterFolder | None,
    *,
    judged_by: Mapping[str, Any] | None = None,
) -> Specification:
    """What an adapter follows from; `of_class` are the class images where the variant trains on them."""
    captions = [photo.caption for photo in photo_set.training_photos]
    settings = _read_settings(run, subject, of_class, captions)
    inputs: dict[str, Any] = {
        "base": base_hash,
        "photos": photo_set.training_hash,
        "class_images": of_class.content_hash if of_class else None,
        "start": start.content_hash if start else None,
    }
    if run.variant.validation.keep != "last":  # then validations decide what is delivered
        settings["validation"] = run.variant.validation.model_dump(mode="json")
        settings["choosing_rule"] = RULE_VERSION
        inputs["judged_by"] = judged_by
    return Specification(STAGE, VERSION, settings, inputs)


@dataclass(frozen=True)
class TrainingInputs:
    """What all variants of a call are trained with."""

    context: Context
    photo_set: PhotoSet
    of_class: ClassSet | None
    start: AdapterFolder | None


@dataclass(frozen=True)
class Pending:
    """A variant that is not current, and the manifest its adapter will have."""

    order: TrainingRequest
    manifest: Manifest


def _at_one_step(pending: Sequence[Pending], progress: Progress) -> list[list[Pending]]:
    """Variants grouped by the step of their newest whole state: only variants at the same step train together."""
    groups: dict[int, list[Pending]] = {}
    for one in pending:
        for folder in (one.order.out, one.order.work):
            require_folder(folder)
        sweep_unfinished(one.order.work)
        step = newest_step(one.order.work, one.manifest.key, progress)
        groups.setdefault(step, []).append(one)
    return [groups[step] for step in sorted(groups, reverse=True)]


def _in_equal_chunks(pending: Sequence[Pending], at_most: int) -> list[list[Pending]]:
    """As few chunks as `at_most` variants each allow, their sizes differing by at most one."""
    count = -(-len(pending) // at_most)
    bounds = [len(pending) * index // count for index in range(count + 1)]
    return [list(pending[first:last]) for first, last in pairwise(bounds)]


def _train_as_memory_allows(inputs: TrainingInputs, pending: list[Pending], parts: int = 1) -> None:
    """Train together; out of memory, train half as many at once, and one alone in smaller micro-batches."""
    try:
        _train_together(inputs, pending, parts)
        return
    except torch.cuda.OutOfMemoryError:
        run = pending[0].order.run
        smaller = _next_parts(run.variant.batch_size, parts)
        if len(pending) == 1 and smaller is None:
            raise LimnerError(
                f"{run.label}: the GPU has too little memory for {run.variant.batch_size // parts} picture(s); "
                'set gradient_checkpointing = true and optimizer = "adamw8bit", or run limner doctor on the study'
            ) from None
    torch.cuda.empty_cache()
    if len(pending) > 1:
        half = len(pending) // 2
        inputs.context.progress.notice(
            f"the GPU's memory is too small for {len(pending)} variants at once; they train in two groups"
        )
        _train_as_memory_allows(inputs, pending[:half], parts)
        _train_as_memory_allows(inputs, pending[half:], parts)
    elif smaller is not None:
        inputs.context.progress.notice(f"out of memory; the same batch is computed in {smaller} micro-batches")
        _train_as_memory_allows(inputs, pending, smaller)


def _next_parts(batch_size: int, parts: int) -> int | None:
    """The next larger number of equal parts of a batch, or None."""
    return next((more for more in range(parts + 1, batch_size + 1) if batch_size % more == 0), None)


def _train_together(inputs: TrainingInputs, pending: Sequence[Pending], parts: int) -> None:
    orders = [one.order for one in pending]
    context, settings = inputs.context, pending[0].manifest.settings
    loaded = context.base()
    runs = [order.run for order in orders]
    for order in orders:
        if order.begin is not None:
            order.begin()
    pictures = EncodedSet(loaded, context, orders[0].work.parent / CACHE)
    photos = pictures.photos(inputs.photo_set, settings.get("instance_prompts"), flip=runs[0].variant.flip)
    of_class = pictures.of_class(inputs.of_class, inputs.photo_set) if inputs.of_class else None
    held_out = _held_out_loss(pictures, inputs.photo_set, orders, loaded)
    of_photos = list(dict.fromkeys(settings.get("instance_prompts", [settings["instance_prompt"]])))
    prompts = of_photos + ([settings["class_prompt"]] if inputs.of_class else [])
    beginning = load_trained(inputs.start) if inputs.start else None
    with (
        set_up(
            runs, loaded, context.subject, prompts, photos, of_class, beginning, context.progress, parts=parts
        ) as training,
        contextlib.ExitStack() as open_logs,
    ):
        training.held_out = held_out
        _resume(training, pending, context.progress)
        variants = []
        for one in pending:
            order = one.order
            log = TrainingLog(order.work, order.run.label, order.run.variant.log_to, training.step)
            curve = open_curve(order.work, order.run.variant.validation, one.manifest.key, resumed=training.step > 0)
            log = open_logs.enter_context(log)
            variants.append(VariantInTraining(order.run, order.work, one.manifest.key, log, curve, order.validate))
        take_steps(training, variants, progress=context.progress)
        if len(pending) > 1:  # killed between two deliveries, the rest is delivered from here, not trained alone anew
            training.keep(variants)
        for index, one in enumerate(pending):
            if not variants[index].failure:
                variants[index].log.sync()
                _deliver(training, variants, index, inputs.start, one)
    for order, variant in zip(orders, variants, strict=True):
        if not variant.failure:
            remove_checkpoints(order.work)
            drop_kept(order.work)
    if failures := [variant.failure for variant in variants if variant.failure]:
        raise LimnerError("; ".join(failures))


def _class_images(run: VariantRun, class_set: ClassSet | None, photo_set: PhotoSet) -> ClassSet | None:
    if not run.variant.prior_preservation:
        return None
    if class_set is None or not class_set.files:
        raise InputError(
            f"{run.label}: prior_preservation = true needs class images but there are none; "
            "set class_images.count above 0, or prior_preservation = false"
        )
    for width, height in photo_set.training_shapes:
        if not class_set.files_of((width, height)):
            raise InputError(
                f"{run.label}: there are photos of {width}x{height} px and no class image of that size; "
                "make class images for these photos"
            )
    return class_set


def _read_settings(
    run: VariantRun, subject: Subject, of_class: ClassSet | None, captions: Sequence[str]
) -> dict[str, Any]:
    """What the training reads; `instance_prompts` is there where each photo has its own."""
    unread = NOT_READ | run.method.own_settings | (set() if of_class else {"prior_loss_weight"})
    settings = run.variant.model_dump(mode="json", exclude=unread)
    resolved = run.method.resolved(run) | {"training_seed": run.training_seed}
    prompts: dict[str, Any] = {"instance_prompt": subject.fill_captioned(run.variant.instance_prompt, "")}
    instance_prompts = [subject.fill_captioned(run.variant.instance_prompt, caption) for caption in captions]
    if set(instance_prompts) != {prompts["instance_prompt"]}:
        prompts["instance_prompts"] = instance_prompts
    if of_class:
        prompts["class_prompt"] = subject.fill(of_class.prompt)
    return settings | resolved | prompts


def _held_out_loss(
    pictures: EncodedSet, photo_set: PhotoSet, orders: Sequence[TrainingRequest], base: Base
) -> HeldOutLoss | None:
    """The loss on held-out photos, where there are any and a variant's validations are scored."""
    if not photo_set.held_out_files or not any(order.run.variant.validation.scored for order in orders):
        return None
    moments = [photos.moments for photos in pictures.held_out(photo_set)]
    return HeldOutLoss(moments, base.vae.config.scaling_factor, len(alphas_cumprod(base.noise_schedule)))


def _resume(training: Training, pending: Sequence[Pending], progress: Progress) -> None:
    """Resume from the newest whole states of these trainings, else begin with empty folders."""
    for index, one in enumerate(pending):
        work, label = one.order.work, one.order.run.label
        checkpoint = newest_checkpoint(work, one.manifest.key, SILENT)
        if checkpoint is not None:
            training.resume(index, checkpoint)
            progress.notice(f"{label}: continuing after step {checkpoint.step} of {training.variant.steps}")
            continue
        remove_checkpoints(work)
        (work / LOG_FILE).unlink(missing_ok=True)
        every = training.variant.checkpoint_every_steps
        states = 3 if every and training.variant.steps > every else 1  # two are kept while a third is written
        averaged = 4 if training.average else 0
        require_space(work, states * training.trainable.count(index) * (BYTES_PER_PARAMETER + averaged))


def _deliver(
    training: Training, variants: Sequence[VariantInTraining], index: int, start: AdapterFolder | None, one: Pending
) -> None:
    """Write one adapter whole; should that fail, the finished training's states stay in the work folders."""
    order, manifest = one.order, one.manifest
    choice = choose(variants[index].curve.records, order.run.variant.validation, training.step)
    record = _record(training, variants[index], index, start, order, choice)
    try:
        with whole_folder(order.out) as folder:
            if choice.step == training.step:
                with training.delivered():
                    save_adapter(folder, training.trainable.adapter(order.run.label, FULL_DTYPE, index))
            else:
                _copy_kept(variants[index].curve, choice.step, folder)
            machine = machine_record(
                device=str(training.work.number.device),
                arithmetic=training.work.arithmetic,
                trained_with=[run.label for run in training.runs if run is not order.run],
            )
            write_manifest(folder, replace(manifest, files=file_hashes(folder), made=machine, record=record))
    except BaseException:
        with contextlib.suppress(LimnerError, OSError):
            training.keep(variants)
        raise


def _copy_kept(curve: Curve, step: int, folder: Path) -> None:
    """The adapter of an earlier step, as it was written then."""
    kept = curve.kept(step)
    if kept is None:
        raise LimnerError(
            f"{curve.work}: the weights of step {step}, which is best, are gone or damaged; "
            "remove this folder and run again to train anew"
        )
    for file in kept.iterdir():
        if file.name != MANIFEST:
            shutil.copyfile(file, folder / file.name)


def _record(
    training: Training,
    variant: VariantInTraining,
    index: int,
    start: AdapterFolder | None,
    order: TrainingRequest,
    choice: ChosenStep,
) -> AdapterRecord:
    run, log = order.run, read_log(order.work / LOG_FILE)
    return AdapterRecord(
        label=run.label,
        method=run.method.name,
        method_record=run.method.resolved(run),
        training_seed=run.training_seed,
        steps=run.variant.steps,
        start_from=StartRecord(label=start.folder.name, content_hash=start.content_hash) if start else None,
        trainable_parameters=training.trainable.count(index),
        seconds=training.seconds,
        seconds_per_step=training.seconds / training.step,
        loss=log[-1].loss if log else None,
        log=thinned(log),
        validation=variant.curve.records,
        chosen=choice if run.variant.validation.keep != "last" else None,
    )
