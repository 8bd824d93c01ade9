"""The training loop: draw, predict, weigh, step.

A step draws its micro-batches by number, so the loop's whole state is the weights, the optimizer's moments, the
moving average and a few counters, and a resumed training takes the very steps an uninterrupted one would have taken.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limner.config import FullVariant, LoraVariant
from limner.diffusion.noise_schedule import add_noise, snr, target
from limner.diffusion.objective import min_snr_weights, squared_errors, weighted_loss
from limner.errors import LimnerError
from limner.progress import SILENT, Progress
from limner.training.checkpoint import Checkpoint, write_checkpoint
from limner.training.ema import ExponentialMovingAverage
from limner.training.examples import CLASS, INSTANCE, Batch
from limner.training.interruption import uninterrupted
from limner.training.learning_rate_schedule import learning_rate_at
from limner.training.log import StepRecord, TrainingLog
from limner.training.trainable import Trainable

SKIPS_ALLOWED = 3  # steps in a row whose loss or gradient may be no number

Validate = Callable[[int], None]
"""Called after a step with its number (counted from 1) while the base's modules carry the weights in training (their
moving average where one is kept): render from the base's modules as they are, in the precision they have."""


@dataclass
class Training:
    """One training under way."""

    variant: FullVariant | LoraVariant
    trainable: Trainable
    optimizer: torch.optim.Optimizer
    average: ExponentialMovingAverage | None
    scaler: torch.amp.GradScaler
    denoiser: nn.Module
    prompt_embeds: Callable[[], Tensor]  # (2, 77, C): of the instance and of the class prompt
    draw: Callable[[int], Batch]
    alphas: Tensor  # ā (T,)
    prediction_type: str
    dtype: torch.dtype  # of the arithmetic
    step: int = 0
    seconds: float = 0.0
    skipped_in_a_row: int = 0
    kept_step: int = 0  # the newest step whose state lies on disk

    def checkpoint(self) -> Checkpoint:
        """The state after the last whole step."""
        counters = {
            "seconds": self.seconds,
            "skipped_in_a_row": self.skipped_in_a_row,
            "scaler": self.scaler.state_dict(),
        }
        average = self.average.average if self.average else None
        return Checkpoint(self.step, self.trainable.parameters, self.optimizer.state_dict(), average, counters)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a stored state."""
        self.trainable.load(checkpoint.trained)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        if self.average is not None and checkpoint.average is not None:
            self.average.load(checkpoint.average)
        if checkpoint.counters["scaler"]:
            self.scaler.load_state_dict(dict(checkpoint.counters["scaler"]))
        self.step = self.kept_step = checkpoint.step
        self.seconds = checkpoint.counters["seconds"]
        self.skipped_in_a_row = checkpoint.counters["skipped_in_a_row"]

    def keep(self, work: Path, key: str) -> None:
        """Write the state after the last whole step to disk, unless it lies there."""
        if self.step > self.kept_step:
            write_checkpoint(work, self.checkpoint(), key)
            self.kept_step = self.step

    def delivered(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the modules carry the weights that are delivered: the moving average where one is kept."""
        return self.average.in_place() if self.average else contextlib.nullcontext()


def take_steps(
    training: Training,
    *,
    label: str,
    work: Path,
    key: str,
    log: TrainingLog,
    validate: Validate | None = None,
    progress: Progress = SILENT,
) -> None:
    """Take the steps that are left. Interrupted, it leaves a resumable state in `work` and raises KeyboardInterrupt.

    Raises LimnerError after more than three steps in a row without a finite loss; the states in `work` stay.
    """
    steps = training.variant.steps
    try:
        with progress.task(f"train {label}", steps) as advance:
            advance(training.step)
            while training.step < steps:
                if not take_step(training, log):
                    _tell_of_skip(training, label, progress)
                advance(1)
                _attend(training, work, key, validate)
    except KeyboardInterrupt:
        training.keep(work, key)  # what changes the state is never cut in two: this is the state after a whole step
        progress.notice(f"{label}: stopped after step {training.step} of {steps}; run again to go on from there")
        raise


def _attend(training: Training, work: Path, key: str, validate: Validate | None) -> None:
    """What is due after a step: a checkpoint, then validation pictures."""
    every, last = training.variant.checkpoint_every_steps, training.step == training.variant.steps
    if every and training.step % every == 0 and not last:
        training.keep(work, key)
    pictures_every = training.variant.validation.every_steps
    if validate is not None and pictures_every and training.step % pictures_every == 0:
        with torch.no_grad(), training.delivered():
            validate(training.step)


def take_step(training: Training, log: TrainingLog | None = None) -> bool:
    """One optimizer step over its micro-batches; False when it was skipped because loss or gradient was no number."""
    started = time.perf_counter()
    variant, count = training.variant, training.variant.gradient_accumulation_steps
    training.optimizer.zero_grad(set_to_none=True)  # an abandoned step may have left some
    losses = [accumulate(training, training.draw(training.step * count + part)) for part in range(count)]
    loss, instance_loss, prior_loss = torch.stack(losses).mean(0).tolist()
    rate = learning_rate_at(
        training.step,
        peak=variant.learning_rate,
        schedule=variant.learning_rate_schedule,
        warmup_steps=variant.warmup_steps,
        steps=variant.steps,
    )
    with uninterrupted():
        updated = math.isfinite(loss) and _update(training, rate)
        training.skipped_in_a_row = 0 if updated else training.skipped_in_a_row + 1
        training.step += 1
        seconds = time.perf_counter() - started
        training.seconds += seconds
        if log is not None and updated:
            prior = None if math.isnan(prior_loss) else prior_loss
            log.write(StepRecord(training.step, loss, instance_loss, prior, rate, seconds))
    return updated


def accumulate(training: Training, batch: Batch) -> Tensor:
    """Add one micro-batch's gradients; returns (3,): objective, mean instance error, mean class error (nan without)."""
    noisy = add_noise(batch.latents, batch.noise, batch.timesteps, training.alphas)  # (B, 4, H/8, W/8)
    wanted = target(training.prediction_type, batch.latents, batch.noise, batch.timesteps, training.alphas)
    with torch.autocast(noisy.device.type, training.dtype, enabled=training.dtype != torch.float32):
        embeds = training.prompt_embeds()[batch.prompt_rows]  # (B, 77, C)
        prediction = training.denoiser(noisy, batch.timesteps, embeds, return_dict=False)[0]
    errors = squared_errors(prediction, wanted)  # (B,)
    weights = batch.loss_weights
    if training.variant.snr_gamma is not None:
        ratios = snr(batch.timesteps, training.alphas)
        weights = weights * min_snr_weights(ratios, training.variant.snr_gamma, training.prediction_type)
    loss = weighted_loss(errors, weights)
    training.scaler.scale(loss / training.variant.gradient_accumulation_steps).backward()
    groups = [errors.detach()[batch.prompt_rows == row].mean() for row in (INSTANCE, CLASS)]
    return torch.stack([loss.detach(), *groups])


def _update(training: Training, learning_rate: float) -> bool:
    """Clip and apply the gradients; False when they are no numbers. fp16's scaler judges its own gradients."""
    optimizer, scaler, limit = training.optimizer, training.scaler, training.variant.max_gradient_norm
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    if scaler.is_enabled():
        scaler.unscale_(optimizer)
    found = [parameter for parameter in training.trainable.parameters.values() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in found if parameter.grad is not None])
    if not scaler.is_enabled() and not math.isfinite(norm.item()):
        return False
    if limit:
        nn.utils.clip_grads_with_norm_(found, limit, norm)
    scaler.step(optimizer)
    scaler.update()
    if training.average is not None:
        training.average.update(training.step + 1)
    return True


def _tell_of_skip(training: Training, label: str, progress: Progress) -> None:
    row = training.skipped_in_a_row
    if row > SKIPS_ALLOWED:
        raise LimnerError(
            f"{label}: the loss was not finite in {row} steps in a row, up to step {training.step}; "
            'the last good state is kept; lower the learning rate or set precision = "fp32"'
        )
    progress.notice(f"{label}: step {training.step} was skipped, its loss was not finite ({row} in a row)")
