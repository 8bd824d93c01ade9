"""One optimizer step of a stack of variants as work of the device alone: draw, predict, weigh, update.

Nothing is read back and nothing branches on what the device computed: the step's number is a scalar on the device,
which every draw and learning rate is looked up by, and what the step says of itself lands in a ring of records. So the
same function runs as it is on a CPU and inside a CUDA graph on a GPU. Only which bucket's examples are drawn, where
photos lie in several, is the host's to say, since their shape depends on it.

Shapes: V variants, G groups (instance, class) of B examples each, T timesteps, S different training seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.base.devices import in_channels_last
from limner.diffusion.noise_schedule import add_noise, snr, target
from limner.diffusion.objective import min_snr_weights, squared_errors, weighted_loss
from limner.kernels.half_products import HalfProducts
from limner.kernels.side_stream import SideStream
from limner.optimizers import Optimizer
from limner.training.bucket_schedule import BucketSchedule
from limner.training.ema import ExponentialMovingAverage
from limner.training.examples import Batch
from limner.training.loss_scale import LossScale
from limner.training.prompts import PromptEmbeds

RING = 64  # steps whose records wait on the device to be read


@dataclass(frozen=True)
class Objective:
    """What one micro-batch asks of the denoiser, and how its errors are weighed."""

    denoiser: nn.Module
    prompt_embeds: PromptEmbeds
    seed_rows: Tensor  # (V,): which of the S drawn seeds each variant trains with
    groups: int
    alphas: Tensor  # ā (T,)
    prediction_type: str
    snr_gamma: float | None
    dtype: torch.dtype  # of the arithmetic; fp16 runs under autocast, beside fp32 weights

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each variant's objective (V,), and its mean errors of instance and class examples (V, G)."""
        variants, examples = len(self.seed_rows), batch.prompt_rows.shape[-1]
        latents, noise, timesteps = (
            drawn.unflatten(0, (-1, examples)).index_select(0, self.seed_rows).flatten(0, 1)  # (V·G·B, …)
            for drawn in (batch.latents, batch.noise, batch.timesteps)
        )
        noisy = add_noise(latents, noise, timesteps, self.alphas)
        wanted = target(self.prediction_type, latents, noise, timesteps, self.alphas)
        prediction = self._predicted(noisy, timesteps, batch.prompt_rows)
        errors = squared_errors(prediction, wanted).view(variants, examples)
        weights = batch.loss_weights.expand(variants, -1)  # (V, G·B)
        if self.snr_gamma is not None:
            ratios = snr(timesteps, self.alphas).view(variants, examples)
            weights = weights * min_snr_weights(ratios, self.snr_gamma, self.prediction_type)
        return weighted_loss(errors, weights), errors.detach().view(variants, self.groups, -1).mean(2)

    def _predicted(self, noisy: Tensor, timesteps: Tensor, prompt_rows: Tensor) -> Tensor:
        """The denoiser's prediction (V·G·B, 4, H/8, W/8)."""
        autocast = self.dtype == torch.float16
        with torch.autocast(noisy.device.type, torch.float16, enabled=autocast):
            if prompt_rows.dim() == 2:
                embeds = self.prompt_embeds.drawn(prompt_rows.index_select(0, self.seed_rows))  # (V·G·B, 77, C)
            else:
                embeds = self.prompt_embeds()[:, prompt_rows]  # (V or 1, G·B, 77, C)
                embeds = embeds.expand(len(self.seed_rows), -1, -1, -1).flatten(0, 1)
            noisy = noisy if autocast else noisy.to(self.dtype)
            if in_channels_last(noisy.device):
                noisy = noisy.contiguous(memory_format=torch.channels_last)
            return self.denoiser(noisy, timesteps, embeds, return_dict=False)[0]


class Step:
    """A whole optimizer step: `accumulation` micro-batches, one update of every variant, one record each."""

    def __init__(
        self,
        draws: Sequence[Callable[[Tensor, Tensor | None], Batch]],
        objective: Objective,
        optimizer: Optimizer,
        rates: Tensor,
        *,
        schedule: BucketSchedule | None = None,
        accumulation: int,
        average: ExponentialMovingAverage | None,
        loss_scale: LossScale | None,
        side_stream: bool = True,
        half_products: bool = False,
    ) -> None:
        """How the step is taken. Of several `draws`, one a bucket, each step takes the one that `schedule` names.

        `half_products` has a processor's fp32 step compute its products in bf16. `side_stream` computes gradients of
        weights on a GPU's second stream: faster, and what they read stays longer.
        """
        self.draws, self.objective, self.optimizer = draws, objective, optimizer
        self.rates = rates  # (steps, V, G): of every step, variant and parameter group
        self.accumulation, self.average, self.loss_scale = accumulation, average, loss_scale
        variants, device = rates.shape[1], rates.device
        self.schedule = schedule
        self._earlier = None if schedule is None else torch.tensor(schedule.earlier, device=device)  # (steps,)
        self.number = torch.zeros((), dtype=torch.int64, device=device)  # of the step to be taken, from 0
        self.records = torch.zeros(RING, variants, 4 + rates.shape[2], dtype=rates.dtype, device=device)
        on_side = side_stream and device.type == "cuda"
        self.computed_in = HalfProducts() if half_products else SideStream(device) if on_side else None

    @property
    def arithmetic(self) -> str:
        """What it computes in, for the record."""
        products = ", products in torch.bfloat16" if isinstance(self.computed_in, HalfProducts) else ""
        return f"{self.objective.dtype}{products}"

    def bucket_of(self, number: int) -> int:
        """Which bucket a step, counted from 0, draws from."""
        return 0 if self.schedule is None else self.schedule.buckets[number]

    def __call__(self, bucket: int = 0) -> None:
        """Take the step that `number` names, whose `bucket_of` is `bucket`."""
        losses = self.collect(bucket)
        rates = self.rates.index_select(0, self.number[None])[0]  # (V, G)
        applied = self.optimizer.step(rates)
        if self.average is not None:
            self.average.update(self.number.expand(len(applied)) + 1)
        if self.loss_scale is not None:
            self.loss_scale.adapt(applied)
        dtype = self.records.dtype
        record = torch.cat([losses.to(dtype), applied[:, None].to(dtype), rates], 1)  # (V, 4 + G)
        self.records.index_copy_(0, (self.number % RING)[None], record[None])
        self.number += 1

    def collect(self, bucket: int = 0) -> Tensor:
        """The gradients of the step's micro-batches; returns their mean objective and errors (V, 3)."""
        self.clear_gradients()
        draw, first, earlier = self.draws[bucket], self.number * self.accumulation, self._earlier_micro_batches()
        with self.computed_in or nullcontext():
            parts = [
                self._accumulate(draw(first + part, None if earlier is None else earlier + part))
                for part in range(self.accumulation)
            ]
        if self.loss_scale is not None:
            self.loss_scale.divide(self.optimizer.trainable)
        self.optimizer.point_at_gradients()
        return torch.stack(parts).mean(0)

    def clear_gradients(self) -> None:
        """Forget the gradients of the step before."""
        trainable = self.optimizer.trainable
        if trainable.gradient is not None:
            trainable.gradient.zero_()
            return
        self.optimizer.forget_gradients()
        for parameter in trainable.parameters.values():
            parameter.grad = None

    def read(self, first: int, last: int) -> list[list[list[float]]]:
        """Records of the steps `first` (from 0) up to `last`, at most RING of them: for each a row a variant.

        A row has the objective, its instance and class error, whether the update was applied, and the learning rate of
        each parameter group."""
        kept = self.records.tolist()
        return [kept[number % RING] for number in range(first, last)]

    def _earlier_micro_batches(self) -> Tensor | None:
        """How many micro-batches of the same bucket came before the step's first."""
        if self._earlier is None:
            return None
        return self._earlier.index_select(0, self.number[None])[0] * self.accumulation

    def _accumulate(self, micro_batch: Batch) -> Tensor:
        losses, errors = self.objective(micro_batch)
        (losses if self.loss_scale is None else losses * self.loss_scale.scale).sum().backward()
        missing = losses.new_full((len(losses), 2 - errors.shape[1]), torch.nan)
        return torch.cat([losses.detach()[:, None], errors, missing], 1)  # (V, 3)
