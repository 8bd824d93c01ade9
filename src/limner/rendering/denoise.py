"""From noise to latents: one plain function over a denoiser and a sampler.

Shapes: B pictures, H x W pixels, C the width of the prompt embeddings; R rows of the denoiser, B or, guided, 2B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.randomness import normal
from limner.rendering.denoiser import BatchInputs, Denoiser

LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8

Callback = Callable[[int, Tensor], None]


def initial_latents(seed: int, image_index: int, width: int, height: int) -> Tensor:
    """Standard normal (4, H/8, W/8) for image `image_index` of `seed`, drawn on the CPU on every device.

    So a picture depends on its seed and index, never on its neighbours, its batch or its device.
    """
    shape = (LATENT_CHANNELS, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    return normal(seed, "initial latents", image_index, shape)


@torch.inference_mode()
def denoise(
    denoiser: Denoiser,
    sampler: Any,
    latents: Tensor,
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    *,
    guidance_scale: float,
    steps: int,
    columns: int = 1,
    conditioning_image: Tensor | None = None,
    conditioning_scale: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Latents (B, 4, H/8, W/8) in fp32 after `steps` steps from standard normal `latents` of the same shape.

    Guidance (Ho and Salimans, "Classifier-free diffusion guidance", 2022, equation 6, its w + 1 called the
    guidance scale) computes both halves in one forward pass; at a scale of 1 or less the unconditional half is omitted.
    `prompt_embeds` and `negative_embeds` are (B, 77, C). The pictures are those of `columns` columns, equally many
    each, one column after another; the denoiser sees the columns in that order too, each with both its halves.
    `conditioning_image` is (1 or B, 3, H, W) in [0, 1]. `sampler` must be new from `make_sampler`.
    `callback(step, latents)` gets the latents after each step.
    """
    weight = denoiser.weight
    guided = guidance_scale > 1
    embeds = _halves(negative_embeds, prompt_embeds, columns) if guided else prompt_embeds  # (R, 77, C)
    hint = None if conditioning_image is None else denoiser.hint(conditioning_image)  # (1 or B, C0, H/8, W/8)
    if hint is not None and guided and len(hint) > 1:
        hint = _halves(hint, hint, columns)
    sampler.set_timesteps(steps)
    timesteps = _moved(sampler.timesteps, weight.device)  # the sampler reads its copy on the CPU, so nothing waits
    latents = _moved(latents.float(), weight.device) * sampler.init_noise_sigma
    with denoiser.over(BatchInputs(embeds.to(weight.device, weight.dtype), hint, conditioning_scale)) as predict:
        for step, timestep in enumerate(sampler.timesteps):
            both_halves = _halves(latents, latents, columns) if guided else latents  # (R, 4, H/8, W/8)
            scaled = sampler.scale_model_input(both_halves, timestep).to(weight.dtype)
            predicted = predict(scaled, timesteps[step]).float()
            if guided:
                unconditional, conditional = predicted.unflatten(0, (columns, -1)).chunk(2, 1)
                predicted = (unconditional + guidance_scale * (conditional - unconditional)).flatten(0, 1)
            latents = sampler.step(predicted, timestep, latents).prev_sample
            if callback is not None:
                callback(step, latents)
    return latents


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; through pinned memory, so that the host need not wait for the GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _halves(unconditional: Tensor, conditional: Tensor, columns: int) -> Tensor:
    """Both halves (B, …) as rows (2B, …): each column's unconditional ones, then its conditional ones."""
    parts = [half.unflatten(0, (columns, -1)) for half in (unconditional, conditional)]  # (V, B/V, …)
    return torch.cat(parts, 1).flatten(0, 1)
