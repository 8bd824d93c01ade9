"""Pictures to latents and back. Pixels are in [-1, 1]; latents carry the VAE's scaling factor.

Shapes: B pictures, H x W pixels; Stable Diffusion's latents are (B, 4, H/8, W/8).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

LOGVAR_RANGE = (-30.0, 20.0)  # as AutoencoderKL's DiagonalGaussianDistribution clamps it


def pixels_from_image(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) fp32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).to(torch.float32) / 127.5 - 1.0


def bytes_from_pixels(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] to (B, H, W, 3) uint8, on the same device; rounded as VaeImageProcessor does."""
    share = (pixels.float() / 2 + 0.5).clamp(0, 1)
    return (share.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).contiguous()


@torch.no_grad()
def encode_moments(vae, pixels: Tensor) -> Tensor:
    """Mean and log-variance (B, 8, H/8, W/8) of the posterior, in fp32 and without the scaling factor."""
    weight = next(vae.parameters())
    distribution = vae.encode(pixels.to(weight.device, weight.dtype)).latent_dist
    return torch.cat([distribution.mean, distribution.logvar], 1).float()


def sample_moments(moments: Tensor, noise: Tensor, scaling_factor: float) -> Tensor:
    """Scaled latents (B, 4, H/8, W/8): (mean + deviation · noise) · scaling factor."""
    mean, logvar = moments.chunk(2, 1)
    deviation = torch.exp(0.5 * logvar.clamp(*LOGVAR_RANGE))
    return (mean + deviation * noise) * scaling_factor


@torch.no_grad()
def decoded_slices(vae, latents: Tensor, slice_size: int = 4) -> Iterator[Tensor]:
    """Pixels (`slice_size`, 3, H, W) in [-1, 1] of scaled latents, slice after slice to bound memory."""
    weight = next(vae.parameters())
    unscaled = latents.to(weight.device, weight.dtype) / vae.config.scaling_factor
    for part in unscaled.split(slice_size):
        yield vae.decode(part).sample
