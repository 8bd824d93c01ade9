"""The training loop: take steps, read what they said, keep resumable states.

A step draws its micro-batches by number, so a training's whole state is its weights, the optimizer's moments, the
moving average and a few counters, and a resumed training takes the very steps an uninterrupted one would have taken.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.config import VariantRun, VariantSettings
from limner.errors import LimnerError
from limner.events import Answered, CommandName
from limner.optimizers import Optimizer, ParameterGroup
from limner.progress import SILENT, Activity, Progress
from limner.records import StepRecord, ValidationRecord
from limner.training.captured import captured
from limner.training.checkpoint import Checkpoint, write_checkpoint
from limner.training.choosing import can_judge
from limner.training.ema import ExponentialMovingAverage
from limner.training.held_out import HeldOutLoss
from limner.training.interruption import uninterrupted
from limner.training.learning_rates import rates_by_name
from limner.training.log import TrainingLog
from limner.training.loss_scale import LossScale
from limner.training.step import RING, Step
from limner.training.trainable import Trainable
from limner.training.validation import Curve

COMMANDS: tuple[CommandName, ...] = ("save", "validate")
SKIPS_ALLOWED = 3  # steps in a row whose loss or gradient may be no number
IN_FLIGHT = 8  # steps that a GPU may be behind: Ctrl-C waits for them
# Rounding whole weights of SD 1.5's spread (0.03) to fp16 changes 1.4% of the root mean square of what 800 steps at
# 2e-6 added to them, without direction; fp32 would double 2 GB, and renders on a GPU compute in fp16 anyway.
FULL_DTYPE = torch.float16

Validate = Callable[[int], ValidationRecord | None]
"""Called after a step with its number (counted from 1) while the base's modules carry the weights in training (their
moving average where one is kept): render from the base's modules as they are, in the precision they have. What it
returns, if anything, is the step's record on the curve: see `choosing`."""


@dataclass
class VariantInTraining:
    """One variant of a stack while it trains: where its state is kept, its log and its validations."""

    run: VariantRun
    work: Path
    key: str
    log: TrainingLog
    curve: Curve  # of its validations
    validate: Validate | None = None
    skipped_in_a_row: int = 0
    failure: str = ""  # why it stopped learning
    newest: StepRecord | None = None  # of those that were read

    def show_newest(self, activity: Activity) -> None:
        """Have the next event say the newest loss."""
        if self.newest is not None:
            activity.measured(self.run.label, self.newest.loss, self.newest.learning_rate)

    def due(self, step: int) -> bool:
        """Whether it is validated after this step: it is due, and the rule has not stopped it before."""
        if self.validate is None or self.failure:
            return False
        return self.curve.due(step, self.run.variant.steps) and not self.curve.stopped(step - 1)


@dataclass
class Training:
    """Variants under way together: at the same step of the same data, each with its own row of weights."""

    runs: Sequence[VariantRun]
    trainable: Trainable
    groups: Sequence[ParameterGroup]  # the columns of the step's learning rates
    optimizer: Optimizer
    average: ExponentialMovingAverage | None
    loss_scale: LossScale | None
    work: Step  # what one step is
    step: int = 0
    seconds: float = 0.0
    read_steps: int = 0  # steps whose records were read
    kept_step: int = 0  # the newest step whose states lie on disk
    held_out: HeldOutLoss | None = None  # where photos are held out and validations scored

    @property
    def variant(self) -> VariantSettings:
        """The settings that all variants share."""
        return self.runs[0].variant

    def checkpoint(self, index: int, skipped_in_a_row: int) -> Checkpoint:
        """One variant's state after the last whole step."""
        counters: dict[str, float | list[float]] = {"seconds": self.seconds, "skipped_in_a_row": skipped_in_a_row}
        if self.loss_scale is not None:
            counters["loss_scale"] = [self.loss_scale.scale[index].item(), self.loss_scale.good_steps[index].item()]
        average = None
        if self.average is not None:
            average_parts = self.trainable.parts_of(self.average.average, index)
            average = {name: tensor.clone() for name, tensor in average_parts}
        return Checkpoint(self.step, self.trainable.state(index), self.optimizer.state(index), average, counters)

    def resume(self, index: int, checkpoint: Checkpoint) -> None:
        """Take one variant's stored state. All variants of a stack resume at the same step."""
        self.trainable.load(checkpoint.trained, index)
        self.optimizer.load(checkpoint.optimizer, index)
        if self.average is not None and checkpoint.average is not None:
            for name, tensor in self.trainable.parts_of(self.average.average, index):
                tensor.copy_(checkpoint.average[name])
        if self.loss_scale is not None and "loss_scale" in checkpoint.counters:
            scale, good_steps = checkpoint.counters["loss_scale"]
            self.loss_scale.scale[index], self.loss_scale.good_steps[index] = scale, int(good_steps)
        self.step = self.read_steps = self.kept_step = checkpoint.step
        self.work.number.fill_(checkpoint.step)
        self.seconds = checkpoint.counters["seconds"]

    def keep(self, variants: Sequence[VariantInTraining]) -> None:
        """Write every variant's state after the last whole step to disk, unless it lies there."""
        if self.step > self.kept_step:
            flush_records(self, variants)
            for index, variant in enumerate(variants):
                if not variant.failure:  # a failed one keeps its last good state
                    variant.log.sync()
                    write_checkpoint(variant.work, self.checkpoint(index, variant.skipped_in_a_row), variant.key)
            self.kept_step = self.step

    def delivered(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the modules carry the weights that are delivered: the moving average where one is kept."""
        return self.average.swapped_in() if self.average else contextlib.nullcontext()


def take_steps(training: Training, variants: Sequence[VariantInTraining], *, progress: Progress = SILENT) -> None:
    """Take the steps that are left, of all variants at once, until the last or until the rule has stopped every one.

    Interrupted, it finishes the step, leaves resumable states and raises KeyboardInterrupt. A variant without a finite
    loss in more than three steps in a row fails and learns no more; where all have failed, raises LimnerError. The
    states in the variants' work folders stay.
    """
    steps, label = training.variant.steps, _joint_label(variants)
    try:
        _catch_up(training, variants, progress)
        if training.step == steps or all_stopped(training, variants):
            return
        take = captured(training.work, label, progress)
        labels = [variant.run.label for variant in variants]
        with progress.task("train", steps, variants=labels, unit="steps", accepts=COMMANDS) as activity:
            activity.resume(training.step)
            for _ in _steps(training, take):
                if not training.work.number.is_cuda or training.step - training.read_steps >= RING // 2:
                    flush_records(training, variants, progress)
                    for variant in variants:
                        variant.show_newest(activity)
                activity(1)
                for command in activity.take():
                    _obey(command, training, variants, progress)
                _after_step(training, variants, progress)
                if all_stopped(training, variants):
                    progress.notice(f"{label}: stopped early after step {training.step} of {steps}: no better step")
                    break
            flush_records(training, variants, progress)
    except KeyboardInterrupt:
        with uninterrupted():  # a second Ctrl-C does not cut the states in two
            training.keep(variants)
            progress.notice(f"{label}: stopped after step {training.step} of {steps}; run again to continue from there")
        raise


def _steps(training: Training, take: Callable[[int], None]) -> Iterator[None]:
    """Take one step after another, none cut in two; on a GPU at most IN_FLIGHT are under way."""
    waiting: deque[torch.cuda.Event] = deque()
    while training.step < training.variant.steps:
        started = time.perf_counter()
        with uninterrupted():
            take(training.work.bucket_of(training.step))
            training.step += 1
            if training.work.number.is_cuda:
                waiting.append(torch.cuda.Event())
                waiting[-1].record()
                if len(waiting) > IN_FLIGHT:
                    waiting.popleft().synchronize()
            training.seconds += time.perf_counter() - started
        yield


def flush_records(training: Training, variants: Sequence[VariantInTraining], progress: Progress = SILENT) -> None:
    """Read the records of the steps since the last time: write them to the logs, count steps that were skipped.

    Raises LimnerError when no variant learns any more.
    """
    first, last = training.read_steps, training.step
    if first == last:
        return
    started = time.perf_counter()
    records = training.work.read(first, last)  # waits for the device
    training.seconds += time.perf_counter() - started
    training.read_steps = last
    seconds = training.seconds / last
    for number, rows in enumerate(records, first):
        for variant, row in zip(variants, rows, strict=True):
            _note(training, variant, number, row, seconds, progress)
    if all(variant.failure for variant in variants):
        raise LimnerError("; ".join(variant.failure for variant in variants))


def _note(
    training: Training,
    variant: VariantInTraining,
    number: int,
    row: Sequence[float],
    seconds: float,
    progress: Progress,
) -> None:
    """Log one variant's step from its record (`Step.read`), or count it among those that were skipped."""
    loss, instance_loss, prior_loss, applied, *rates = row
    if variant.failure:
        return
    if not applied and not (training.loss_scale is not None and math.isfinite(loss)):
        variant.skipped_in_a_row += 1
        _tell_of_skip(variant, number + 1, progress)
        return
    variant.skipped_in_a_row = 0
    if applied:
        prior = None if math.isnan(prior_loss) else prior_loss
        by_group = rates_by_name(training.groups, rates)
        variant.newest = StepRecord(
            step=number + 1,
            loss=loss,
            instance_loss=instance_loss,
            prior_loss=prior,
            learning_rate=rates[0],
            seconds=seconds,
            **({"learning_rates": by_group} if by_group else {}),
        )
        variant.log.write(variant.newest)


def _after_step(training: Training, variants: Sequence[VariantInTraining], progress: Progress) -> None:
    """What is due after a step: a checkpoint, then validations."""
    every, last = training.variant.checkpoint_every_steps, training.step == training.variant.steps
    if every and training.step % every == 0 and not last:
        training.keep(variants)
    for index, variant in enumerate(variants):
        if variant.due(training.step):
            flush_records(training, variants, progress)
            if not variant.failure:
                _validate(training, variant, index)


def _obey(command: CommandName, training: Training, variants: Sequence[VariantInTraining], progress: Progress) -> None:
    """Save or show the weights now. A validation that was asked for has no part in which step is delivered."""
    if command == "save":
        training.keep(variants)
        progress.emit(Answered(command=command, outcome="done", message=f"saved after step {training.step}"))
        return
    shown = []
    for index, variant in enumerate(variants):
        if variant.validate is not None and not variant.failure:
            with torch.no_grad(), training.delivered(), training.trainable.only(index):
                record = variant.validate(training.step)
            values = record.to_json() if record else {}
            shown.append(" ".join([variant.run.label, *(f"{n} {v}" for n, v in values.items() if n != "step")]))
    none = "no variant here sets validation.every_steps, so none knows how to validate"
    message = f"step {training.step}: {'; '.join(shown)}" if shown else none
    progress.emit(Answered(command=command, outcome="done" if shown else "refused", message=message))


def _catch_up(training: Training, variants: Sequence[VariantInTraining], progress: Progress) -> None:
    """Validate where an interruption came between a step and its validation."""
    for index, variant in enumerate(variants):
        scored = variant.run.variant.validation.scored
        if scored and variant.due(training.step) and training.step not in variant.curve.by_step:
            _validate(training, variant, index)


def _validate(training: Training, variant: VariantInTraining, index: int) -> None:
    """Show a variant's weights to its validation; keep them and what it says of them where they may be chosen."""
    settings, curve = variant.run.variant.validation, variant.curve
    assert variant.validate is not None  # as `VariantInTraining.due` has checked
    with torch.no_grad(), training.delivered(), training.trainable.only(index):
        record = variant.validate(training.step)
        if record is None:
            return
        loss = training.held_out(training.work.objective) if training.held_out else None
        record = record.model_copy(update={"step": training.step, "validation_loss": _finite(loss)})
        if settings.keep == "best" and can_judge(record):
            curve.keep(training.step, training.trainable.adapter(variant.run.label, FULL_DTYPE, index))
    curve.add(record)
    curve.drop_hopeless()


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def all_stopped(training: Training, variants: Sequence[VariantInTraining]) -> bool:
    """Whether every variant that still learns has been stopped by its rule."""
    learning = [variant for variant in variants if not variant.failure]
    return bool(learning) and all(variant.curve.stopped(training.step) for variant in learning)


def _tell_of_skip(variant: VariantInTraining, step: int, progress: Progress) -> None:
    label, row = variant.run.label, variant.skipped_in_a_row
    if row > SKIPS_ALLOWED:
        variant.failure = (
            f"{label}: the loss was not finite in {row} steps in a row, up to step {step}; "
            'the last good state is kept; lower the learning rate or set precision = "fp32"'
        )
    else:
        progress.notice(f"{label}: step {step} was skipped, its loss was not finite ({row} in a row)")


def _joint_label(variants: Sequence[VariantInTraining]) -> str:
    return ", ".join(variant.run.label for variant in variants)
