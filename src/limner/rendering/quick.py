"""Renders single prompts: the quick look, and the validation pictures of a training run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limner.adapters import Adapter, attached
from limner.base import Base
from limner.config import Render
from limner.errors import InputError
from limner.rendering.batch import PromptEmbeddings, Recipe, Request, render_batch
from limner.rendering.parameters import generation_parameters, model_name
from limner.rendering.png import encode_png


def render_prompt(
    base: Base,
    adapter: Adapter,
    prompt: str,
    seed: int,
    *,
    image_index: int = 0,
    negative_prompt: str | None = None,
    size: tuple[int, int] | None = None,
    strength: float = 1.0,
    settings: Render | None = None,
) -> bytes:
    """PNG of one prompt with `adapter` attached: the same picture as a study's cell with this request.

    `settings` give sampler, steps, guidance, negative prompt and size; if omitted, the base's recommendation
    does. Raises InputError for a size that is not divisible by 8.
    """
    settings = settings or recommended_render(base)
    size = size or settings.size
    if size[0] % base.vae_factor or size[1] % base.vae_factor:
        raise InputError(f"size {size[0]}x{size[1]} is not divisible by {base.vae_factor}; choose one that is")
    negative = settings.negative_prompt if negative_prompt is None else negative_prompt
    request = Request(prompt, negative, seed, image_index, size)
    recipe = Recipe(settings.sampler, settings.steps, settings.guidance_scale)
    with attached(base.modules(), adapter, strength):
        images, flags = render_batch(base, recipe, [request], PromptEmbeddings(base))
    parameters = generation_parameters(
        recipe,
        request,
        (adapter.label, adapter.fixed_hash) if adapter.fixed.parts else (model_name(base), ""),
        (adapter.label, "") if adapter.low_rank else None,
        strength=strength,
        clip_skip=base.clip_skip,
    )
    stamp = {"prompt": prompt, "seed": seed, "variant": adapter.label, "strength": strength, "flagged": flags[0]}
    return encode_png(images[0], stamp, parameters)


def render_validation(
    base: Base,
    prompts: Sequence[str],
    seed: int,
    *,
    recipe: Recipe,
    size: tuple[int, int],
    batch_size: int = 4,
    vae_batch_size: int = 4,
) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 from the base's modules in their present state of training.

    Picture N is seeded by (seed, N), so that it can be compared from one time to the next. No safety checker runs.
    """
    embeddings = PromptEmbeddings(base)
    requests = [Request(prompt, "", seed, index, size) for index, prompt in enumerate(prompts)]
    batches = [requests[start : start + batch_size] for start in range(0, len(requests), batch_size)]
    parts = [
        render_batch(base, recipe, batch, embeddings, check=False, vae_batch_size=vae_batch_size)[0]
        for batch in batches
    ]
    return np.concatenate(parts)


def recommended_render(base: Base) -> Render:
    """The base's recommended render settings, over limner's defaults, at its native size."""
    recommended = dict(base.location.defaults.get("render", {}))
    native = (base.native_size_px, base.native_size_px)
    return Render.model_validate({"size": native, **recommended})
