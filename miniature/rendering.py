"""Guided DDIM renders for contact sheets and checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from miniature.captions import token_rows
from miniature.randomness import torch_generator
from miniature.settings import BETA_END, BETA_START, LATENT_PX, TRAIN_TIMESTEPS
from miniature.training import precision
from miniature.views import to_pictures

RENDER_BATCH = 48


def make_sampler() -> DDIMScheduler:
    """DDIM (Song et al. 2021, arXiv 2010.02502) with Stable Diffusion 1.5's settings."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def encode_prompts(text_model: Any, tokenizer: Any, prompts: list[str], device: str) -> Tensor:
    """Hidden states of the text tower, (B, 77, hidden)."""
    ids = torch.from_numpy(token_rows(tokenizer, prompts)).to(device)
    with torch.no_grad():
        return text_model(input_ids=ids).last_hidden_state.float()


def initial_latents(seeds: list[int]) -> Tensor:
    """Noise that depends on each picture's seed alone, (B, 4, 32, 32)."""
    shape = (4, LATENT_PX, LATENT_PX)
    return torch.stack([torch.randn(shape, generator=torch_generator(seed, "render")) for seed in seeds])


@torch.no_grad()
def render(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    scaling_factor: float,
    text: Tensor,
    empty_text: Tensor,
    seeds: list[int],
    steps: int = 25,
    guidance_scale: float = 5.0,
    controlnet: ControlNetModel | None = None,
    edges: Tensor | None = None,
) -> np.ndarray:
    """uint8 pictures (B, 256, 256, 3), one for each prompt embedding and seed."""
    results = []
    for start in range(0, len(seeds), RENDER_BATCH):
        rows = slice(start, start + RENDER_BATCH)
        hints = None if edges is None else edges[rows]
        latents = _sample(unet, text[rows], empty_text, seeds[rows], steps, guidance_scale, controlnet, hints)
        with precision(str(latents.device)):
            results.append(to_pictures(vae.decode(latents / scaling_factor, return_dict=False)[0]))
    return np.concatenate(results)


def _sample(
    unet: UNet2DConditionModel,
    text: Tensor,
    empty_text: Tensor,
    seeds: list[int],
    steps: int,
    guidance_scale: float,
    controlnet: ControlNetModel | None,
    edges: Tensor | None,
) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, equation 6)."""
    sampler = make_sampler()
    sampler.set_timesteps(steps)
    latents = initial_latents(seeds).to(text.device)
    both = torch.cat([empty_text.expand_as(text), text])  # (2B, 77, hidden)
    for timestep in sampler.timesteps.tolist():
        doubled = torch.cat([latents, latents])
        times = torch.full((len(doubled),), timestep, device=text.device)
        extra: dict[str, Any] = {}
        with precision(str(text.device)):
            if controlnet is not None and edges is not None:
                hints = torch.cat([edges, edges])
                down, middle = controlnet(doubled, times, both, hints, return_dict=False)
                extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
            predicted = unet(doubled, times, both, return_dict=False, **extra)[0].float()
        without, conditional = predicted.chunk(2)
        latents = sampler.step(without + guidance_scale * (conditional - without), timestep, latents).prev_sample
    return latents
