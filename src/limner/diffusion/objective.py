"""The training objective.

DreamBooth with prior preservation (Ruiz et al. 2023, equation 2), as diffusers' training script computes it:

    L = 1/B_i Σ_instance w e + λ 1/B_c Σ_class w e,    e = mean over an example's values of (prediction - target)²

with B_i instance and B_c class examples, λ the prior loss weight and w = 1, or the min-SNR weight of the example's
own timestep. Every example has its weight (1/B_i or λ/B_c), so L is one weighted sum over the batch and does not
depend on the order of examples.
"""

from __future__ import annotations

import torch
from torch import Tensor


def example_weights(is_class: Tensor, prior_loss_weight: float = 1.0) -> Tensor:
    """Each example's weight (B,) in fp32: 1/B_i where `is_class` (B,) is false, λ/B_c where it is true."""
    of_class = is_class.to(torch.float32)
    of_instance = 1.0 - of_class
    per_instance = of_instance / of_instance.sum().clamp(min=1.0)
    return per_instance + prior_loss_weight * of_class / of_class.sum().clamp(min=1.0)


def squared_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each example (B,), in fp32 or better."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(wide) - target.to(wide)).square().flatten(1).mean(1)


def weighted_loss(errors: Tensor, weights: Tensor) -> Tensor:
    """The sum (…) of weight times error (…, B): the objective L for `example_weights` (times min-SNR's)."""
    return (errors * weights).sum(-1)


def min_snr_weights(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR weights (B,), Hang et al. 2023, section 3.4: min(SNR, γ)/SNR for ε and min(SNR, γ)/(SNR + 1) for v."""
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1.0)
    return (gamma / snr).clamp(max=1.0)  # the same, and 1 where SNR is 0


def offset_noise(noise: Tensor, channel_noise: Tensor, strength: float) -> Tensor:
    """Noise (B, C, H, W) with `strength` times one value (B, C) added to all pixels of a channel (Guttenberg 2023)."""
    return noise + strength * channel_noise[:, :, None, None]
