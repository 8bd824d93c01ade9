"""What one step is trained on: latents, noise, timesteps and weights, each a function of (training seed, position).

Examples are counted: micro-batch n of size B holds the positions n·B … n·B + B - 1. Everything random about an
example comes from (training seed, purpose, position), with purposes of their own for instance and class examples.
So variants with the same seed see the same data, noise and timesteps, whatever their rank, method and batch size,
and whether or not class images stand beside the photos; a resume needs nothing but the step's number.

Shapes: B examples, N pictures, latents (B, 4, H/8, W/8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.artifacts import hash_file, stage_key, write_whole
from limner.diffusion.latents import encode_moments, pixels_from_image, sample_moments
from limner.diffusion.objective import example_weights, offset_noise
from limner.diffusion.randomness import integers, normal, permutation, uniform
from limner.errors import InputError
from limner.progress import SILENT, Progress

ENCODED_AT_ONCE = 4
CACHE_VERSION = 1
INSTANCE, CLASS = 0, 1  # rows of the prompts


@dataclass(frozen=True)
class EncodedPictures:
    """Posterior moments of one group's pictures, and of their mirror images where half of them are to be flipped."""

    moments: Tensor  # (N, 8, H/8, W/8), fp32
    mirrored: Tensor | None = None  # the same shape

    def __len__(self) -> int:
        return self.moments.shape[0]


@dataclass(frozen=True)
class Batch:
    """Examples of one micro-batch, instance and class; nothing depends on their order."""

    latents: Tensor  # (B, 4, H/8, W/8)
    noise: Tensor  # (B, 4, H/8, W/8)
    timesteps: Tensor  # (B,)
    prompt_rows: Tensor  # (B,), INSTANCE or CLASS
    loss_weights: Tensor  # (B,), 1/B_i or λ/B_c


@dataclass(frozen=True)
class Drawing:
    """How micro-batches are drawn."""

    seed: int
    batch_size: int  # instance examples; as many class examples are added where there are class images
    timestep_count: int
    scaling_factor: float  # the VAE's
    prior_loss_weight: float = 1.0
    noise_offset: float = 0.0


def encode_pictures(
    vae, files: Sequence[Path], size_px: int, *, flip: bool, base_hash: str, cache: Path, progress: Progress = SILENT
) -> EncodedPictures:
    """Moments of square pictures of `size_px`, read from the folder `cache` when they were encoded before.

    Raises InputError for a picture of another size.
    """
    inputs = {"base": base_hash, "pictures": [hash_file(file) for file in files]}
    key = stage_key("moments", CACHE_VERSION, {"dtype": str(next(vae.parameters()).dtype)}, inputs)
    with progress.task("encode pictures", len(files) * (1 + flip)) as advance:
        moments = _cached(cache / f"{key}.safetensors", vae, files, size_px, False, advance)
        mirror = _cached(cache / f"{key}-mirrored.safetensors", vae, files, size_px, True, advance) if flip else None
    device = next(vae.parameters()).device
    return EncodedPictures(moments.to(device), None if mirror is None else mirror.to(device))


def _cached(
    path: Path, vae, files: Sequence[Path], size_px: int, mirror: bool, advance: Callable[[int], None]
) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    try:
        moments = load_file(path)["moments"]
        advance(len(files))
        return moments
    except (OSError, SafetensorError, KeyError):
        pass  # not encoded yet, or damaged: encode
    pieces = []
    for start in range(0, len(files), ENCODED_AT_ONCE):
        pixels = torch.stack([_pixels(file, size_px) for file in files[start : start + ENCODED_AT_ONCE]])
        pieces.append(encode_moments(vae, pixels.flip(3) if mirror else pixels).cpu())  # (B, 8, H/8, W/8)
        advance(len(pixels))
    moments = torch.cat(pieces).contiguous()
    write_whole(path, save({"moments": moments}))
    return moments


def _pixels(file: Path, size_px: int) -> Tensor:
    from PIL import Image

    with Image.open(file) as image:
        if image.size != (size_px, size_px):
            raise InputError(
                f"{file} is {image.width}x{image.height} px and the study trains at {size_px}x{size_px}; "
                "prepare the photos and class images at one size"
            )
        return pixels_from_image(np.array(image.convert("RGB")))


def draw_batch(instance: EncodedPictures, of_class: EncodedPictures | None, drawing: Drawing, number: int) -> Batch:
    """Micro-batch `number` of a training: the same at every call, on every machine."""
    groups = [("instance", instance, INSTANCE)]
    if of_class is not None:
        groups.append(("class", of_class, CLASS))
    positions = range(number * drawing.batch_size, (number + 1) * drawing.batch_size)
    drawn = [
        (*_draw_example(purpose, pictures, drawing, position), row)
        for purpose, pictures, row in groups
        for position in positions
    ]
    latents, noise, timesteps, rows = zip(*drawn, strict=True)
    prompt_rows = torch.tensor(rows, device=latents[0].device)
    weights = example_weights(prompt_rows == CLASS, drawing.prior_loss_weight)
    return Batch(torch.stack(latents), torch.stack(noise), torch.cat(timesteps), prompt_rows, weights)


def _draw_example(
    purpose: str, pictures: EncodedPictures, drawing: Drawing, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (4, H/8, W/8), noise (4, H/8, W/8) and timestep (1,) of one example."""
    seed, device = drawing.seed, pictures.moments.device
    picture = picture_at(seed, purpose, position, len(pictures))
    moments = pictures.moments
    if pictures.mirrored is not None and uniform(seed, f"{purpose} flip", position, (1,)).item() < 0.5:
        moments = pictures.mirrored
    shape = (moments.shape[1] // 2, *moments.shape[2:])
    posterior_noise = normal(seed, f"{purpose} posterior", position, (1, *shape), device)
    latents = sample_moments(moments[picture : picture + 1], posterior_noise, drawing.scaling_factor)[0]
    noise = normal(seed, f"{purpose} noise", position, (1, *shape), device)
    if drawing.noise_offset:
        channel_noise = normal(seed, f"{purpose} noise offset", position, (1, shape[0]), device)
        noise = offset_noise(noise, channel_noise, drawing.noise_offset)
    return latents, noise[0], integers(seed, f"{purpose} timesteps", position, (1,), drawing.timestep_count, device)


def picture_at(seed: int, purpose: str, position: int, count: int) -> int:
    """Which picture stands at `position`: epochs of `count`, each in an order of its own, none twice in an epoch."""
    return _order(seed, f"{purpose} data order", position // count, count)[position % count]


@lru_cache(maxsize=8)
def _order(seed: int, purpose: str, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(permutation(seed, purpose, epoch, count))
