"""The forward process as plain tensors: how much noise each timestep carries.

Ho et al., "Denoising diffusion probabilistic models", 2020. Below, ā is the cumulative product of (1 - β), one
number a timestep; shapes: B examples, T timesteps, latents (B, 4, H/8, W/8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limner.errors import BaseError


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """ā (T,) in fp32 from a scheduler's configuration. Raises BaseError for a beta schedule other than (scaled) linear.

    Computed in fp32 in diffusers' order, so that both train with the same bits.
    """
    betas = _betas(config)
    if config.get("rescale_betas_zero_snr", False):
        return _with_zero_terminal_snr(torch.cumprod(1.0 - betas, 0))
    return torch.cumprod(1.0 - betas, 0)


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    first, last = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    count = int(config.get("num_train_timesteps", 1000))
    schedule = config.get("beta_schedule", "linear")
    if schedule == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, count, dtype=torch.float32) ** 2
    if schedule == "linear":
        return torch.linspace(first, last, count, dtype=torch.float32)
    raise BaseError(
        f'the base\'s scheduler has beta_schedule = "{schedule}"; "scaled_linear" and "linear" are supported'
    )


def _with_zero_terminal_snr(alphas: Tensor) -> Tensor:
    """Shift and scale √ā so that the last timestep is pure noise (Lin et al. 2024, algorithm 1)."""
    roots = alphas.sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * first / (first - last)) ** 2


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas: Tensor) -> Tensor:
    """Noisy latents √ā x + √(1 - ā) ε (Ho et al. 2020, equation 4); `timesteps` (B,), `alphas` is ā (T,)."""
    signal, spread = _roots(alphas, timesteps, latents)
    return signal * latents + spread * noise


def velocity(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas: Tensor) -> Tensor:
    """v = √ā ε - √(1 - ā) x (Salimans and Ho 2022, section 4)."""
    signal, spread = _roots(alphas, timesteps, latents)
    return signal * noise - spread * latents


def target(prediction_type: str, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas: Tensor) -> Tensor:
    """What the denoiser should predict: the noise ("epsilon") or the velocity ("v_prediction")."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return velocity(latents, noise, timesteps, alphas)
    raise BaseError(f'prediction type "{prediction_type}" is not supported (epsilon, v_prediction)')


def snr(timesteps: Tensor, alphas: Tensor) -> Tensor:
    """Signal-to-noise ratio ā / (1 - ā) of each example (B,)."""
    chosen = alphas[timesteps]
    return chosen / (1.0 - chosen)


def _roots(alphas: Tensor, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    chosen = alphas.to(like.dtype)[timesteps].reshape(-1, *[1] * (like.ndim - 1))  # (B, 1, 1, 1)
    return chosen.sqrt(), (1.0 - chosen).sqrt()
