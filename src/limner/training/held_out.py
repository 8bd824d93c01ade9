"""The loss on photos that no training sees, at fixed noise levels and with fixed noise: comparable between steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from limner.diffusion.latents import sample_moments
from limner.diffusion.randomness import normal
from limner.training.examples import INSTANCE, Batch
from limner.training.step import Objective

NOISE_LEVELS = 8
AT_ONCE = 8  # examples


class HeldOutLoss:
    """Mean squared error of the prediction, every photo at every noise level, unweighted.

    Noise and posterior noise are functions of (seed, purpose, photo and level) alone: the same at every call and for
    every variant.
    """

    def __init__(self, moments: Sequence[Tensor], scaling_factor: float, timestep_count: int, seed: int = 0) -> None:
        """`moments` (N, 8, H/8, W/8) are the photos' posterior moments, a tensor for each shape of theirs."""
        self.batches: list[Batch] = []
        first = 0  # photo of a shape
        for of_shape in moments:
            examples = _examples(of_shape, first, scaling_factor, timestep_count, seed)
            self.batches += [_batch(*parts) for parts in zip(*(part.split(AT_ONCE) for part in examples), strict=True)]
            first += len(of_shape)

    @torch.no_grad()
    def __call__(self, objective: Objective) -> float:
        """The mean over all examples, of whatever the denoiser computes with; all rows must be of one variant."""
        embeds = objective.prompt_embeds()[:1]  # (1, G, 77, C)
        plain = replace(
            objective,
            prompt_embeds=lambda: embeds,  # type: ignore[arg-type]  # its rows are the first prompt alone
            seed_rows=torch.zeros(1, dtype=torch.int64, device=objective.alphas.device),
            groups=1,
            snr_gamma=None,
        )
        losses = [plain(batch)[0].item() for batch in self.batches]
        sizes = [len(batch.latents) for batch in self.batches]
        return math.fsum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def _examples(
    moments: Tensor, first: int, scaling_factor: float, timestep_count: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and noise (8·N, 4, H/8, W/8) and timesteps (8·N,) of photos of one shape, `first` the number of the
    first."""
    count, device = len(moments), moments.device
    shape = (moments.shape[1] // 2, *moments.shape[2:])  # (4, H/8, W/8)

    def drawn(purpose: str) -> Tensor:
        numbers = range(first * NOISE_LEVELS, (first + count) * NOISE_LEVELS)
        return torch.stack([normal(seed, purpose, index, shape, device) for index in numbers])

    repeated = moments.repeat_interleave(NOISE_LEVELS, 0)  # (8·N, 8, H/8, W/8)
    latents = sample_moments(repeated, drawn("validation posterior"), scaling_factor)
    levels = (torch.arange(NOISE_LEVELS, device=device) + 0.5) / NOISE_LEVELS * timestep_count
    return latents, drawn("validation noise"), levels.long().repeat(count)


def _batch(latents: Tensor, noise: Tensor, timesteps: Tensor) -> Batch:
    rows = torch.full((len(latents),), INSTANCE, device=latents.device)
    weights = torch.full((len(latents),), 1 / len(latents), device=latents.device)
    return Batch(latents, noise, timesteps, rows, weights)
