"""From noise to latents: one plain function over a denoiser and a sampler.

Shapes: B pictures, H x W pixels, C the width of the prompt embeddings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from limner.diffusion.randomness import normal

LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8

Callback = Callable[[int, Tensor], None]


def initial_latents(seed: int, image_index: int, width: int, height: int) -> Tensor:
    """Standard normal (4, H/8, W/8) for image `image_index` of `seed`, drawn on the CPU whatever renders it.

    So a picture depends on its own seed and index, never on its neighbours, its batch or its device.
    """
    shape = (LATENT_CHANNELS, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    return normal(seed, "initial latents", image_index, shape)


@torch.inference_mode()
def denoise(
    unet: nn.Module,
    sampler: Any,
    latents: Tensor,
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    *,
    guidance_scale: float,
    steps: int,
    controlnet: nn.Module | None = None,
    conditioning_image: Tensor | None = None,
    conditioning_scale: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Latents (B, 4, H/8, W/8) in fp32 after `steps` steps from standard normal `latents` of the same shape.

    Guidance (Ho and Salimans, "Classifier-free diffusion guidance", 2022, equation 6, its w + 1 called the
    guidance scale) takes both halves in one forward; at a scale of 1 or less the unconditional half is left out.
    `prompt_embeds` and `negative_embeds` are (B, 77, C). `conditioning_image` is (1 or B, 3, H, W) in [0, 1].
    `sampler` comes fresh from `make_sampler`. `callback(step, latents)` sees the latents after each step.
    """
    weight = next(unet.parameters())
    guided = guidance_scale > 1
    embeds = torch.cat([negative_embeds, prompt_embeds]) if guided else prompt_embeds  # (2B or B, 77, C)
    embeds = embeds.to(weight.device, weight.dtype)
    sampler.set_timesteps(steps)
    latents = latents.to(weight.device, torch.float32) * sampler.init_noise_sigma
    with _conditioning(controlnet, conditioning_image, conditioning_scale, guided) as residuals:
        for step, timestep in enumerate(sampler.timesteps):
            doubled = torch.cat([latents, latents]) if guided else latents  # (2B or B, 4, H/8, W/8)
            scaled = sampler.scale_model_input(doubled, timestep).to(weight.dtype)
            predicted = unet(scaled, timestep, embeds, **residuals(scaled, timestep, embeds)).sample.float()
            if guided:
                unconditional, conditional = predicted.chunk(2)
                predicted = unconditional + guidance_scale * (conditional - unconditional)
            latents = sampler.step(predicted, timestep, latents).prev_sample
            if callback is not None:
                callback(step, latents)
    return latents


@contextlib.contextmanager
def _conditioning(
    controlnet: Any, image: Tensor | None, scale: float, guided: bool
) -> Iterator[Callable[[Tensor, Tensor, Tensor], dict[str, Any]]]:
    """Yield what gives a step its residuals: nothing without a ControlNet (Zhang et al., 2023, equation 4).

    The hint network sees the same picture at every step, so it runs once: an identity stands in for it meanwhile.
    """
    if controlnet is None or image is None:
        yield lambda scaled, timestep, embeds: {}
        return
    weight = next(controlnet.parameters())
    hint_network = controlnet.controlnet_cond_embedding
    hint = hint_network(image.to(weight.device, weight.dtype))  # (1 or B, C0, H/8, W/8)

    def residuals(scaled: Tensor, timestep: Tensor, embeds: Tensor) -> dict[str, Any]:
        both = torch.cat([hint, hint]) if guided and len(hint) > 1 else hint
        down, middle = controlnet(scaled, timestep, embeds, both, conditioning_scale=scale, return_dict=False)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    controlnet.controlnet_cond_embedding = nn.Identity()
    try:
        yield residuals
    finally:
        controlnet.controlnet_cond_embedding = hint_network
