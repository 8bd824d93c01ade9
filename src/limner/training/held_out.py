"""The loss on photos that no training sees, at fixed noise levels and with fixed noise: comparable between steps."""

from __future__ import annotations

import math
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

    def __init__(self, moments: Tensor, scaling_factor: float, timestep_count: int, seed: int = 0) -> None:
        """`moments` (N, 8, H/8, W/8) are the photos' posterior moments."""
        count, device = len(moments), moments.device
        shape = (moments.shape[1] // 2, *moments.shape[2:])  # (4, H/8, W/8)

        def drawn(purpose: str) -> Tensor:
            return torch.stack([normal(seed, purpose, index, shape, device) for index in range(count * NOISE_LEVELS)])

        repeated = moments.repeat_interleave(NOISE_LEVELS, 0)  # (8·N, 8, H/8, W/8)
        self.latents = sample_moments(repeated, drawn("validation posterior"), scaling_factor)
        self.noise = drawn("validation noise")  # (8·N, 4, H/8, W/8)
        levels = (torch.arange(NOISE_LEVELS, device=device) + 0.5) / NOISE_LEVELS * timestep_count
        self.timesteps = levels.long().repeat(count)  # (8·N,)

    @torch.no_grad()
    def __call__(self, objective: Objective) -> float:
        """The mean over all examples, of whatever the denoiser computes with; all rows must be of one variant."""
        embeds = objective.prompt_embeds()[:1]  # (1, G, 77, C)
        plain = replace(
            objective,
            prompt_embeds=lambda: embeds,  # type: ignore[arg-type]  # its rows are the first prompt alone
            seed_rows=torch.zeros(1, dtype=torch.int64, device=self.latents.device),
            groups=1,
            snr_gamma=None,
        )
        losses = [plain(self._batch(start))[0].item() for start in range(0, len(self.latents), AT_ONCE)]
        sizes = [min(AT_ONCE, len(self.latents) - start) for start in range(0, len(self.latents), AT_ONCE)]
        return math.fsum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)

    def _batch(self, start: int) -> Batch:
        part = slice(start, start + AT_ONCE)
        latents = self.latents[part]
        rows = torch.full((len(latents),), INSTANCE, device=latents.device)
        weights = torch.full((len(latents),), 1 / len(latents), device=latents.device)
        return Batch(latents, self.noise[part], self.timesteps[part], rows, weights)
