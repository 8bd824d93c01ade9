"""From a variant's settings to a training that is ready to take its first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from limner.adapters import Adapter
from limner.base import Base
from limner.base.devices import training_dtype
from limner.config import LoraVariant, Subject, VariantRun
from limner.diffusion.noise_schedule import alphas_cumprod
from limner.progress import SILENT, Progress
from limner.training.ema import ExponentialMovingAverage
from limner.training.examples import BatchDraw, Drawing, EncodedPictures
from limner.training.loop import Training
from limner.training.optimizer import make_optimizer
from limner.training.prompts import embedder, prompt_ids
from limner.training.trainable import LowRankPlan, trainable


def trained_modules(run: VariantRun) -> tuple[str, ...]:
    """Names of the modules that a variant trains."""
    variant = run.variant
    unet = not isinstance(variant, LoraVariant) or variant.unet
    return (("unet",) if unet else ()) + (("text_encoder",) if variant.text_encoder else ())


@contextmanager
def set_up(
    run: VariantRun,
    base: Base,
    subject: Subject,
    prompts: Sequence[str],
    instance: EncodedPictures,
    of_class: EncodedPictures | None,
    start: Adapter | None,
    progress: Progress = SILENT,
) -> Iterator[Training]:
    """A training at step 0, with the base's modules carrying its weights while the block runs.

    `prompts` are the instance prompt and, with prior preservation, the class prompt, placeholders filled.
    """
    variant, device = run.variant, base.device
    ids = prompt_ids(base, subject, prompts, progress)
    dtype = training_dtype(variant.precision, device)
    plan = None
    if isinstance(variant, LoraVariant):
        rank = run.rank or variant.rank[0]
        plan = LowRankPlan(rank, variant.alpha_for(rank), variant.targets, run.training_seed)
    names = trained_modules(run)
    alphas = alphas_cumprod(base.noise_schedule).to(device)
    drawing = Drawing(
        run.training_seed,
        variant.batch_size,
        len(alphas),
        base.vae.config.scaling_factor,
        variant.prior_loss_weight,
        variant.noise_offset,
    )
    checkpointing = variant.gradient_checkpointing
    with trainable(base, names, low_rank=plan, start=start, dtype=dtype, gradient_checkpointing=checkpointing) as ready:
        autocast = partial(torch.autocast, device.type, dtype, enabled=dtype != torch.float32)
        with autocast():
            embeds = embedder(base, ids, trained="text_encoder" in names)
        yield Training(
            variant,
            ready,
            make_optimizer(
                variant.optimizer,
                ready.parameters.values(),
                betas=variant.betas,
                epsilon=variant.epsilon,
                weight_decay=variant.weight_decay,
            ),
            ExponentialMovingAverage(ready.parameters, variant.ema_decay) if variant.ema_decay is not None else None,
            torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
            base.unet,
            embeds,
            BatchDraw(instance, of_class, drawing),
            alphas,
            base.prediction_type,
            dtype,
        )
