"""One batch of pictures from a loaded base: prompts to embeddings, noise to latents, latents to pictures."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.base import Base, encode_prompts
from limner.diffusion.latents import bytes_from_pixels, decoded_slices
from limner.diffusion.samplers import make_sampler
from limner.rendering.denoise import Callback, denoise, initial_latents
from limner.rendering.denoiser import Denoiser, PlainDenoiser
from limner.rendering.safety import check_pictures


@dataclass(frozen=True)
class Recipe:
    """How every picture of a grid is sampled."""

    sampler: str
    steps: int
    guidance_scale: float


@dataclass(frozen=True)
class Request:
    """What one picture should show. `size` is width and height in pixels, both multiples of 8."""

    prompt: str
    negative_prompt: str
    seed: int
    image_index: int
    size: tuple[int, int]
    reference: str = ""  # name of the conditioning image; "" for none
    conditioning_scale: float = 1.0


@dataclass(frozen=True)
class Conditioning:
    """A loaded ControlNet and the conditioning images (3, H, W) in [0, 1] by their references' names."""

    controlnet: Any
    images: Mapping[str, Tensor]


@dataclass
class PromptEmbeddings:
    """Each text encoded once, alone, so that its embedding does not depend on what else is rendered.

    Valid for one state of the text encoder: create a new one when an adapter is attached or removed.
    """

    base: Base
    encoded: dict[str, Tensor] = field(default_factory=dict)

    def of(self, texts: Sequence[str]) -> Tensor:
        """Prompt embeddings (B, 77, C)."""
        for text in texts:
            if text not in self.encoded:
                base = self.base
                self.encoded[text] = encode_prompts(base.tokenizer, base.text_encoder, [text], base.clip_skip)
        return torch.cat([self.encoded[text] for text in texts])


Embeddings = PromptEmbeddings | Sequence[PromptEmbeddings]
"""For the text encoder alone, or for each column; the columns' requests follow one another in equal numbers."""


def render_latents(
    base: Base,
    recipe: Recipe,
    requests: Sequence[Request],
    embeddings: Embeddings,
    conditioning: Conditioning | None = None,
    callback: Callback | None = None,
    denoiser: Denoiser | None = None,
) -> Tensor:
    """Latents (B, 4, H/8, W/8) of requests that share their size and conditioning scale.

    `denoiser` calls the base's UNet (and the ControlNet); if omitted, they are called directly.
    """
    columns = [embeddings] if isinstance(embeddings, PromptEmbeddings) else embeddings
    noise = torch.stack([initial_latents(r.seed, r.image_index, *r.size) for r in requests])
    images = torch.stack([conditioning.images[r.reference] for r in requests]) if conditioning else None
    if images is not None and len({r.reference for r in requests}) == 1:
        images = images[:1]
    return denoise(
        denoiser or PlainDenoiser(base.unet, conditioning.controlnet if conditioning else None),
        make_sampler(recipe.sampler, base.noise_schedule),
        noise,
        _embeds(columns, [r.prompt for r in requests]),
        _embeds(columns, [r.negative_prompt for r in requests]),
        guidance_scale=recipe.guidance_scale,
        steps=recipe.steps,
        columns=len(columns),
        conditioning_image=images,
        conditioning_scale=requests[0].conditioning_scale,
        callback=callback,
    )


def _embeds(columns: Sequence[PromptEmbeddings], texts: Sequence[str]) -> Tensor:
    """Prompt embeddings (B, 77, C), each text's by its column."""
    each = len(texts) // len(columns)
    return torch.cat(
        [embeddings.of(texts[index * each : (index + 1) * each]) for index, embeddings in enumerate(columns)]
    )


@dataclass(frozen=True)
class PendingBatch:
    """Pictures (B, H, W, 3) uint8 that a GPU may still be computing; `computed` is the event of their completion."""

    pixels: Tensor
    computed: Any = None

    def images(self) -> np.ndarray:
        """The pictures, after waiting for them."""
        if self.computed is not None:
            self.computed.synchronize()
        return self.pixels.numpy()


@torch.inference_mode()
def begin_batch(
    base: Base,
    recipe: Recipe,
    requests: Sequence[Request],
    embeddings: Embeddings,
    conditioning: Conditioning | None = None,
    denoiser: Denoiser | None = None,
    vae_batch_size: int = 4,
) -> PendingBatch:
    """Compute a batch; on a GPU only start it: its pictures are copied to the host in the background."""
    latents = render_latents(base, recipe, requests, embeddings, conditioning, denoiser=denoiser)
    return begin_decoding(base, latents, vae_batch_size)


@torch.inference_mode()
def begin_decoding(base: Base, latents: Tensor, vae_batch_size: int = 4) -> PendingBatch:
    """Pictures of latents (B, 4, H/8, W/8), `vae_batch_size` decoded at once; on a GPU only started."""
    slices = decoded_slices(base.vae, latents, vae_batch_size)
    pixels = torch.cat([bytes_from_pixels(part) for part in slices])  # (B, H, W, 3)
    if pixels.device.type != "cuda":
        return PendingBatch(pixels.cpu())
    host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
    host.copy_(pixels, non_blocking=True)
    computed = torch.cuda.Event()
    computed.record()
    return PendingBatch(host, computed)


def checked(base: Base, images: np.ndarray, *, check: bool = True) -> tuple[np.ndarray, list[bool | None]]:
    """Pictures (B, H, W, 3) uint8 and whether the safety checker flagged each (and made it black).

    The flag is None if no checker ran: the base has none, or `check` is off.
    """
    if not check or base.safety_checker is None:
        return images, [None] * len(images)
    pictures, flagged = check_pictures(base.safety_checker, base.feature_extractor, images)
    return pictures, list(flagged)


def render_batch(
    base: Base,
    recipe: Recipe,
    requests: Sequence[Request],
    embeddings: Embeddings,
    conditioning: Conditioning | None = None,
    *,
    check: bool = True,
    vae_batch_size: int = 4,
) -> tuple[np.ndarray, list[bool | None]]:
    """Pictures (B, H, W, 3) uint8 of one batch and the safety checker's verdicts: see `checked`."""
    pending = begin_batch(base, recipe, requests, embeddings, conditioning, vae_batch_size=vae_batch_size)
    return checked(base, pending.images(), check=check)


def in_precision(base: Base, dtype: torch.dtype) -> Base:
    """The base itself if it has that precision, else a copy with UNet, text encoder and VAE in it.

    A copy, since casting back and forth would change the weights of the base, which other code uses.
    """
    if base.dtype == dtype:
        return base
    cast = {name: _cast_copy(getattr(base, name), dtype) for name in ("unet", "text_encoder", "vae")}
    return dataclasses.replace(base, **cast)


def _cast_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A deep copy with floating-point tensors in `dtype`, without an intermediate copy in the old one."""
    memo = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        copied = tensor.detach().to(dtype if tensor.is_floating_point() else None, copy=True)
        memo[id(tensor)] = nn.Parameter(copied, False) if isinstance(tensor, nn.Parameter) else copied
    return copy.deepcopy(module, memo)
