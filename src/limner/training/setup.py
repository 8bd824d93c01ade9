"""From variants' settings to a training of all of them that is ready to take its first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from limner.adapters import Adapter
from limner.base import Base, placed
from limner.base.devices import multiplies_in_bf16, training_dtype
from limner.blocks import fused
from limner.config import Subject, VariantRun
from limner.diffusion.noise_schedule import alphas_cumprod
from limner.progress import SILENT, Progress
from limner.training.bucket_schedule import bucket_schedule
from limner.training.ema import ExponentialMovingAverage
from limner.training.examples import BatchDraw, Drawing, EncodedPictures
from limner.training.learning_rates import learning_rates, parameter_groups
from limner.training.loop import Training
from limner.training.loss_scale import LossScale
from limner.training.prompts import PromptEmbeds, prompt_ids
from limner.training.step import Objective, Step
from limner.training.trainable import Trainable, trainable


@contextmanager
def set_up(
    runs: Sequence[VariantRun],
    base: Base,
    subject: Subject,
    prompts: Sequence[str],
    instance: EncodedPictures | Sequence[EncodedPictures],
    of_class: EncodedPictures | Sequence[EncodedPictures] | None,
    start: Adapter | None,
    progress: Progress = SILENT,
    *,
    parts: int = 1,
) -> Iterator[Training]:
    """A training of `runs`, one stack (`Method.stack_key`), at step 0.

    The base's modules carry its weights while the block runs. A frozen text encoder that waits on the CPU is on the
    device only while the prompts are encoded. `prompts` are the instance prompt (all that the photos' own rows name,
    where they have some) and, with prior preservation, the class prompt, placeholders filled. Pictures of several
    shapes are given bucket by bucket. `parts` cuts every micro-batch for the sake of memory; the step is the same.
    """
    variant = runs[0].variant
    names = runs[0].method.trained_modules(variant)
    ids = prompt_ids(base, subject, prompts, progress, of_class=of_class is not None)
    dtype = training_dtype(variant.precision, base.device)
    with (
        trainable(base, runs, start=start, dtype=dtype, gradient_checkpointing=variant.gradient_checkpointing) as ready,
        fused(*(base.modules()[name] for name in dict.fromkeys(("unet", *names))), everywhere=True),
    ):
        half = dtype == torch.float16
        with placed(base, "text_encoder"), torch.autocast(base.device.type, torch.float16, enabled=half):
            embeds = PromptEmbeds(base, ids, variants=len(runs), trained="text_encoder" in names)
        photos, others = _in_buckets(instance), None if of_class is None else _in_buckets(of_class)
        yield _training(runs, base, ready, embeds, photos, others, dtype, parts)


def _in_buckets(pictures: EncodedPictures | Sequence[EncodedPictures]) -> Sequence[EncodedPictures]:
    return [pictures] if isinstance(pictures, EncodedPictures) else pictures


def _training(
    runs: Sequence[VariantRun],
    base: Base,
    ready: Trainable,
    embeds: PromptEmbeds,
    instance: Sequence[EncodedPictures],
    of_class: Sequence[EncodedPictures] | None,
    dtype: torch.dtype,
    parts: int,
) -> Training:
    variant, device = runs[0].variant, base.device
    accumulation = variant.gradient_accumulation_steps * parts
    average = ExponentialMovingAverage(ready.weights, variant.ema_decay) if variant.ema_decay is not None else None
    loss_scale = LossScale(len(runs), device) if dtype == torch.float16 else None
    groups = parameter_groups(runs, ready.groups, variant.optimizer.group_options)
    optimizer = variant.optimizer.build(
        ready,
        groups,
        [run.training_seed for run in runs],
        max_norm=variant.max_gradient_norm,
        gradient_scale=1.0 / accumulation,
    )
    seeds = tuple(dict.fromkeys(run.training_seed for run in runs))
    alphas = alphas_cumprod(base.noise_schedule).to(device)
    drawing = Drawing(
        seeds,
        variant.batch_size // parts,
        len(alphas),
        base.vae.config.scaling_factor,
        variant.prior_loss_weight,
        variant.noise_offset,
        class_row=len(embeds) - 1,
    )
    objective = Objective(
        base.unet,
        embeds,
        torch.tensor([seeds.index(run.training_seed) for run in runs], device=device),
        2 if of_class is not None else 1,
        alphas,
        base.prediction_type,
        variant.snr_gamma,
        dtype,
    )
    buckets = zip(instance, of_class or [None] * len(instance), strict=True)
    step = Step(
        [BatchDraw(*bucket, drawing) for bucket in buckets],
        objective,
        optimizer,
        learning_rates(runs, groups, device),
        schedule=bucket_schedule([len(pictures) for pictures in instance], variant.steps)
        if len(instance) > 1
        else None,
        accumulation=accumulation,
        average=average,
        loss_scale=loss_scale,
        side_stream=not variant.gradient_checkpointing,  # who asks for that needs the memory more than the time
        half_products=dtype == torch.float32 and multiplies_in_bf16(variant.precision, device),
    )
    return Training(runs, ready, groups, optimizer, average, loss_scale, step)
