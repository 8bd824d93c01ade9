"""A whole training in one file, with nothing but torch and diffusers: what one step of limner computes.

It teaches a Stable Diffusion folder one subject by full fine-tuning (DreamBooth) or by LoRA, with prior preservation.
Only the random numbers are limner's (`limner.diffusion.randomness`), so that losses and weights can be compared with
the engine's, which computes the same in stacked, fused and captured form: `tests/test_plain_trainer.py` does so.

Shapes: B instance and B class examples a step, pictures (N, 3, H, W) in [-1, 1], latents (4, H/8, W/8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from limner.diffusion.randomness import integers, normal, random_words, uniform

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass
class Settings:
    """One training. A `rank` of 0 trains the UNet and the text encoder in full; any other trains a LoRA of the UNet."""

    prompts: tuple[str, str]  # of the photos and of the class images
    rank: int = 0
    steps: int = 4
    batch_size: int = 2
    learning_rate: float = 1e-3
    seed: int = 0
    prior_loss_weight: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    max_gradient_norm: float = 1.0


@dataclass
class Result:
    """The loss of every step, and the trained weights by module and key."""

    losses: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


class LowRank(nn.Module):
    """A frozen linear layer plus up(down(x)): LoRA (Hu et al. 2022, equation 3) with alpha = rank, so a scale of 1."""

    def __init__(self, layer: nn.Linear, rank: int, seed: int, index: int) -> None:
        super().__init__()
        bound = layer.in_features**-0.5  # the initialisation of nn.Linear
        self.layer = layer
        self.down = nn.Parameter((uniform(seed, "low-rank down", index, (rank, layer.in_features)) * 2 - 1) * bound)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.T @ self.up.T


def train(base: Path, photos: Tensor, class_images: Tensor, settings: Settings) -> Result:
    """Train the diffusers folder `base` on `photos` and `class_images` (N, 3, H, W)."""
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    text_encoder = CLIPTextModel.from_pretrained(base / "text_encoder")
    vae = AutoencoderKL.from_pretrained(base / "vae")
    noise_schedule = DDPMScheduler.from_pretrained(base / "scheduler", steps_offset=0)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    ids = tokenizer([*settings.prompts], padding="max_length", max_length=77, return_tensors="pt").input_ids  # (2, 77)
    with torch.no_grad():  # pictures are encoded once; each step samples their latents anew
        groups = {"instance": vae.encode(photos).latent_dist, "class": vae.encode(class_images).latent_dist}

    parameters = add_low_rank(unet, settings) if settings.rank else all_weights(unet, text_encoder)
    optimizer = torch.optim.AdamW(
        parameters.values(), settings.learning_rate, settings.betas, settings.epsilon, settings.weight_decay
    )
    result = Result()
    for step in range(settings.steps):
        first = step * settings.batch_size
        losses = {}
        for row, (group, posterior) in enumerate(groups.items()):
            examples = [
                draw(settings.seed, group, position, posterior, noise_schedule.config.num_train_timesteps)
                for position in range(first, first + settings.batch_size)
            ]
            latents, noise, timesteps = (torch.stack(parts) for parts in zip(*examples, strict=True))
            latents = latents * vae.config.scaling_factor  # (B, 4, H/8, W/8)
            noisy = noise_schedule.add_noise(latents, noise, timesteps)  # Ho et al. 2020, equation 4
            prompts = text_encoder(ids[row : row + 1]).last_hidden_state.expand(settings.batch_size, -1, -1)
            losses[group] = functional.mse_loss(unet(noisy, timesteps, prompts).sample, noise)
        loss = losses["instance"] + settings.prior_loss_weight * losses["class"]  # Ruiz et al. 2023, equation 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), settings.max_gradient_norm)
        optimizer.step()
        result.losses.append(loss.item())
    result.weights = {name: parameter.detach() for name, parameter in parameters.items()}
    return result


def draw(seed: int, group: str, position: int, posterior, timestep_count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Example `position` of a group: unscaled latents, noise and timestep, whatever the batch size and the method."""
    count, shape = len(posterior.mean), posterior.mean.shape[1:]
    epoch, index = divmod(position, count)
    words = random_words(seed, f"{group} data order", epoch, 2 * count).view(count, 2).tolist()
    picture = sorted(range(count), key=lambda each: words[each])[index]  # every epoch has its own order
    sampled = posterior.mean[picture] + posterior.std[picture] * normal(seed, f"{group} posterior", position, shape)
    noise = normal(seed, f"{group} noise", position, shape)
    return sampled, noise, integers(seed, f"{group} timesteps", position, (), timestep_count)


def add_low_rank(unet: nn.Module, settings: Settings) -> dict[str, Tensor]:
    """Freeze the UNet and give each attention projection a low-rank update; the updates' weights by name."""
    unet.requires_grad_(False)
    names = [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear) and name.endswith(ATTENTION)]
    trained: dict[str, Tensor] = {}
    for index, name in enumerate(names):
        parent, _, child = name.rpartition(".")
        update = LowRank(unet.get_submodule(name), settings.rank, settings.seed, index)
        setattr(unet.get_submodule(parent), child, update)
        trained |= {f"unet.{name}.down": update.down, f"unet.{name}.up": update.up}
    return trained


def all_weights(unet: nn.Module, text_encoder: nn.Module) -> dict[str, Tensor]:
    """All weights of both modules, by name."""
    modules = {"unet": unet, "text_encoder": text_encoder}
    return {f"{name}.{key}": each for name, module in modules.items() for key, each in module.named_parameters()}
