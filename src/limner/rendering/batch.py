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
from limner.diffusion.latents import decode_latents, images_from_pixels
from limner.diffusion.samplers import make_sampler
from limner.rendering.denoise import Callback, denoise, initial_latents
from limner.rendering.safety import check_pictures


@dataclass(frozen=True)
class Recipe:
    """How every picture of a grid is made."""

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
    """Each text encoded once, by itself, so that its embedding does not depend on what else is rendered.

    Holds for one state of the text encoder: make a new one when an adapter is attached or removed.
    """

    base: Base
    known: dict[str, Tensor] = field(default_factory=dict)

    def of(self, texts: Sequence[str]) -> Tensor:
        """Prompt embeddings (B, 77, C)."""
        for text in texts:
            if text not in self.known:
                base = self.base
                self.known[text] = encode_prompts(base.tokenizer, base.text_encoder, [text], base.clip_skip)
        return torch.cat([self.known[text] for text in texts])


def render_latents(
    base: Base,
    recipe: Recipe,
    requests: Sequence[Request],
    embeddings: PromptEmbeddings,
    conditioning: Conditioning | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Latents (B, 4, H/8, W/8) of requests that share their size and conditioning scale."""
    noise = torch.stack([initial_latents(r.seed, r.image_index, *r.size) for r in requests])
    images = torch.stack([conditioning.images[r.reference] for r in requests]) if conditioning else None
    if images is not None and len({r.reference for r in requests}) == 1:
        images = images[:1]
    return denoise(
        base.unet,
        make_sampler(recipe.sampler, base.noise_schedule),
        noise,
        embeddings.of([r.prompt for r in requests]),
        embeddings.of([r.negative_prompt for r in requests]),
        guidance_scale=recipe.guidance_scale,
        steps=recipe.steps,
        controlnet=conditioning.controlnet if conditioning else None,
        conditioning_image=images,
        conditioning_scale=requests[0].conditioning_scale,
        callback=callback,
    )


def render_batch(
    base: Base,
    recipe: Recipe,
    requests: Sequence[Request],
    embeddings: PromptEmbeddings,
    conditioning: Conditioning | None = None,
    *,
    check: bool = True,
) -> tuple[np.ndarray, list[bool | None]]:
    """Pictures (B, H, W, 3) uint8 and whether the safety checker flagged each (and made it black).

    The flag is None where none ran: the base has none, or `check` is off.
    """
    latents = render_latents(base, recipe, requests, embeddings, conditioning)
    images = images_from_pixels(decode_latents(base.vae, latents))
    if not check or base.safety_checker is None:
        return images, [None] * len(requests)
    checked, flagged = check_pictures(base.safety_checker, base.feature_extractor, images)
    return checked, list(flagged)


def in_precision(base: Base, dtype: torch.dtype) -> Base:
    """The base itself if it has that precision, else a copy with UNet, text encoder and VAE in it.

    A copy, since casting to and fro would change the weights of the base that others hold.
    """
    if base.dtype == dtype:
        return base
    cast = {name: _cast_copy(getattr(base, name), dtype) for name in ("unet", "text_encoder", "vae")}
    return dataclasses.replace(base, **cast)


def _cast_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A deep copy with floating-point tensors in `dtype`, without a second copy in the old one on the way."""
    memo = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        copied = tensor.detach().to(dtype if tensor.is_floating_point() else None, copy=True)
        memo[id(tensor)] = nn.Parameter(copied, False) if isinstance(tensor, nn.Parameter) else copied
    return copy.deepcopy(module, memo)
