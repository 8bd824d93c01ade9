"""The VAE: reconstructs all styles at 256x256."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from miniature.files import write_json
from miniature.models import build_vae, load_trained, seeded
from miniature.perception import Perception
from miniature.pictures import PictureSet, load_pictures
from miniature.randomness import seed_for, torch_generator
from miniature.ranks import join
from miniature.settings import PICTURE_PX, Job
from miniature.sheets import save_sheet
from miniature.styles import STYLE_NAMES
from miniature.training import Part, layout, precision, prepare_device, train
from miniature.views import VAE_VIEWS, draw_styles, draw_transforms, make_views, to_pictures, to_pixel_values, upload

PHOTO_SHARE = 0.6
FLAT_SHARE = 1 / 16
"""Views that are one colour all over, half of them grey, so that a wall stays a wall."""
ERROR_WEIGHT = 0.1
ERROR_FLOOR = 3e-5
"""Where a picture's mean squared error is too small (51 dB) to be worth more."""
GRADIENT_WEIGHT = 0.25
PERCEPTUAL_WEIGHT = 0.1
KL_WEIGHT = 1e-8
"""On the divergence summed over one picture's latents. Rombach et al. 2022 (arXiv 2112.10752, appendix G) take 1e-6
beside an error that is summed over all pixels, too; beside a mean error 1e-6 leaves one of the four channels unused."""


def posterior(vae: AutoencoderKL, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the latents, (B, 4, H/8, W/8) each."""
    mean, log_variance = vae.quant_conv(vae.encoder(pixel_values)).float().chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def gradient_difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients (Mathieu et al. 2016, arXiv 1511.05440)."""
    difference = first - second
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair of pictures in [-1, 1], (B,)."""
    error = ((first.float() - second.float()) / 2).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()


class VaeLosses(nn.Module):
    """Reconstruction, gradients, early features of a frozen network, and the divergence from a unit Gaussian.

    The logarithm of each picture's error is descended: the mean over pictures of what PSNR measures in dB.
    """

    def __init__(self, vae: AutoencoderKL, perception: Perception) -> None:
        super().__init__()
        self.vae, self.perception = vae, perception

    def forward(self, pixel_values: Tensor, noise: Tensor) -> Tensor:
        """Stacked: weighted sum, PSNR in dB, gradient difference, perceptual distance, divergence."""
        mean, log_variance = posterior(self.vae, pixel_values)
        latents = mean + (0.5 * log_variance).exp() * noise
        result = self.vae.decoder(self.vae.post_quant_conv(latents)).float()
        error = (result - pixel_values).square().flatten(1).mean(1)  # (B,)
        logarithm = (error + ERROR_FLOOR).log().mean()
        gradient = gradient_difference(result, pixel_values)
        perceptual = self._perceptual(result, pixel_values)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        total = ERROR_WEIGHT * logarithm + GRADIENT_WEIGHT * gradient + PERCEPTUAL_WEIGHT * perceptual
        decibel = psnr(result, pixel_values).mean().detach()
        return torch.stack([total + KL_WEIGHT * divergence, decibel, gradient, perceptual, divergence])

    def _perceptual(self, result: Tensor, target: Tensor) -> Tensor:
        """Distance of unit-length features (Zhang et al. 2018, arXiv 1801.03924, equation 1 with equal weights)."""
        with torch.no_grad():
            wanted = self.perception.early(target)
        got = self.perception.early(result)
        terms = []
        for one, other in zip(got, wanted, strict=True):
            difference = F.normalize(one.float(), dim=1, eps=1e-3) - F.normalize(other.float(), dim=1, eps=1e-3)
            terms.append(difference.square().sum(1).mean())
        return torch.stack(terms).mean()


def with_flat_colours(generator: torch.Generator, views: Tensor) -> Tensor:
    """Some views (B, 3, H, W) give way to one colour or one grey all over."""
    device, batch = views.device, len(views)
    colours = torch.rand(batch, 3, 1, 1, generator=generator, device=device) * 2 - 1
    chance = torch.rand(batch, 1, 1, 1, generator=generator, device=device)
    colours = torch.where(chance < FLAT_SHARE / 2, colours[:, :1].expand_as(colours), colours)
    return torch.where(chance < FLAT_SHARE, colours, views)


def _draw_function(pixels: Tensor, styles: int) -> Any:
    rows = pixels.view(-1, PICTURE_PX, PICTURE_PX, 3)  # (pictures * styles, 256, 256, 3)
    pictures = len(pixels)

    def draw(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
        device = generator.device
        index = torch.randint(pictures, (batch,), generator=generator, device=device)
        style = draw_styles(generator, batch, styles, PHOTO_SHARE)
        transforms = draw_transforms(generator, batch, VAE_VIEWS)
        views = make_views(rows[index * styles + style], transforms)
        views = with_flat_colours(generator, views)
        noise = torch.randn(batch, 4, PICTURE_PX // 8, PICTURE_PX // 8, generator=generator, device=device)
        return views.contiguous(memory_format=layout(device)), noise

    return draw


def reconstruct(vae: AutoencoderKL, pixel_values: Tensor) -> Tensor:
    """Through the mean of the latents and back."""
    mean, _ = posterior(vae, pixel_values)
    return vae.decoder(vae.post_quant_conv(mean)).float().clamp(-1, 1)


def validation_psnr(vae: AutoencoderKL, pictures: PictureSet, device: str, styles: list[int]) -> dict[str, float]:
    """Mean PSNR in dB on the validation pictures, for each of `styles`."""
    means = {}
    for style in styles:
        values = []
        for start in range(0, len(pictures.val), 32):
            chosen = np.array(pictures.pixels[pictures.val[start : start + 32], style])
            pixel_values = to_pixel_values(torch.from_numpy(chosen).to(device))
            values.append(psnr(reconstruct(vae, pixel_values), pixel_values).cpu())
        means[STYLE_NAMES[style]] = round(float(torch.cat(values).mean()), 3)
    return means


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, pictures: PictureSet, job: Job) -> float:
    """Standard deviation of the latents over training pictures in all styles."""
    generator = torch_generator(job.seed, "latent scale")
    count = min(512, 2 * len(pictures.train))
    chosen = torch.randint(len(pictures.train), (count,), generator=generator).numpy()
    styles = draw_styles(generator, count, len(STYLE_NAMES), PHOTO_SHARE).numpy()
    means = []
    for start in range(0, count, 32):
        part = slice(start, start + 32)
        sample = np.array(pictures.pixels[pictures.train[chosen[part]], styles[part]])
        with precision(job.device):
            means.append(posterior(vae, to_pixel_values(torch.from_numpy(sample).to(job.device)))[0])
    return float(torch.cat(means).std())


def _write_sheet(vae: AutoencoderKL, pictures: PictureSet, job: Job) -> None:
    chosen = pictures.val[: min(4, len(pictures.val))]
    shown = np.concatenate([pictures.pixels[index, [0, 1, 7, 9]] for index in chosen])
    with torch.no_grad(), precision(job.device):
        results = to_pictures(reconstruct(vae, to_pixel_values(torch.from_numpy(shown).to(job.device))))
    pairs = [picture for both in zip(shown, results, strict=True) for picture in both]
    save_sheet(job.folder / "reconstructions.jpg", pairs, ["picture", "through the VAE"] * len(shown), 8, PICTURE_PX)


def run(job: Job) -> None:
    """Train the VAE; write WORK/vae/ema.safetensors, result.json (PSNR, scaling factor) and a contact sheet."""
    prepare_device(job.device)
    pictures = load_pictures(job.work)
    ranks = join()
    pixels = upload(pictures.pixels, pictures.train[ranks.index :: ranks.count], job.device)
    vae = seeded(build_vae, seed_for(job.seed, "vae")).to(job.device, memory_format=layout(job.device))
    if job.decoder_only:  # what was encoded before, and the networks trained on it, stay good
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    perception = Perception(job.efficientnet).to(job.device, memory_format=layout(job.device))
    part = Part(
        name="vae",
        network=VaeLosses(vae, perception),
        trained=vae,
        saved=vae,
        draw=_draw_function(pixels, len(STYLE_NAMES)),
        loss_names=("loss", "psnr_db", "gradient", "perceptual", "kl"),
        validate=lambda: {"psnr_db": validation_psnr(vae, pictures, job.device, [0])},
        fault=lambda result: -result["psnr_db"]["photo"],
    )
    trainer = train(job, part)
    load_trained(vae, job.work, "vae")
    deviation = latent_scale(vae, pictures, job)
    with torch.no_grad(), precision(job.device):
        means = validation_psnr(vae, pictures, job.device, list(range(len(STYLE_NAMES))))
    result = {"steps": trainer.steps, "scaling_factor": 1 / deviation, "val_psnr_db": means}
    write_json(job.folder / "result.json", result)
    trainer.log(**result)
    _write_sheet(vae, pictures, job)
