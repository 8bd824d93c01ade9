"""One cell of the study rendered again with the exported file through diffusers, beside limner's own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.adapters import attached
from limner.base import Base, find_base, load_base
from limner.base.find import find_vae
from limner.config import Render
from limner.diffusion.samplers import make_sampler
from limner.errors import InputError, LimnerError
from limner.exporting.export import Exported
from limner.exporting.source import Source
from limner.rendering import PromptEmbeddings, Recipe, Request, initial_latents, render_latents
from limner.rendering.quick import recommended_render

FALLBACK_PROMPT = "a portrait"


@dataclass(frozen=True)
class PixelDifference:
    """Between limner's picture and diffusers' of the exported file: same prompt, seed, first noise and sampler."""

    prompt: str
    seed: int
    steps: int
    latents: float  # largest difference, of the largest latent
    pixels: int  # largest difference of a colour, of 255

    def __str__(self) -> str:
        return (
            f'rendered again through diffusers ("{self.prompt}", seed {self.seed}, {self.steps} steps, fp32): latents '
            f"differ by {self.latents:.1e} of the largest, colours by {self.pixels} of 255 at most"
        )


def render_again(
    source: Source, exported: Exported, *, steps: int = 0, device: torch.device | None = None
) -> PixelDifference:
    """Render one cell with the source through limner and with the exported file through diffusers, in fp32.

    The cell is the study's first prompt and seed in its size; `steps` 0 takes the study's. A DoRA can only be merged:
    there both sides read the exported model. Raises InputError where
    diffusers needs PEFT to load a LoRA and it is not installed.
    """
    if exported.lora is not None and find_spec("peft") is None:
        raise InputError("diffusers needs PEFT to load a LoRA: pip install peft, or skip this check with --no-render")
    recorded = source.settings
    vae = find_vae(recorded.vae) if recorded.vae else None
    base = load_base(source.base(), device=device or "cpu", dtype=torch.float32, vae=vae, clip_skip=recorded.clip_skip)
    settings = source.study.render if source.study else recommended_render(base)
    request = _cell(source, settings)
    recipe = Recipe(settings.sampler, steps or settings.steps, settings.guidance_scale)
    ours = _ours(base, source, exported, recipe, request)
    pipeline = _pipeline(base, exported).to(base.device)
    theirs = _theirs(pipeline, base, recipe, request)
    with torch.no_grad():
        colours = [_colours(pipeline, latents) for latents in (ours, theirs)]
    largest = (ours - theirs).abs().max() / theirs.abs().max()
    if not torch.isfinite(largest):
        raise LimnerError(
            "one of the two pictures contains NaN or infinity: the base or the adapter has values that overflow"
        )
    return PixelDifference(
        request.prompt, request.seed, recipe.steps, float(largest), int((colours[0] - colours[1]).abs().max())
    )


def _cell(source: Source, settings: Render) -> Request:
    prompts = settings.prompts
    text = source.study.subject.fill(prompts[0].prompt) if source.study and prompts else FALLBACK_PROMPT
    return Request(text, settings.negative_prompt, settings.seeds[0], 0, settings.size)


def _ours(base: Base, source: Source, exported: Exported, recipe: Recipe, request: Request) -> Tensor:
    """Latents (1, 4, H/8, W/8) of limner's own rendering; of the exported model where it holds a DoRA merged."""
    if source.changes:
        model = find_base(str(exported.model))
        base = load_base(model, device=base.device, dtype=torch.float32, clip_skip=base.clip_skip)
        return render_latents(base, recipe, [request], PromptEmbeddings(base))
    with attached(base.modules(), source.adapter(), exported.strength):
        return render_latents(base, recipe, [request], PromptEmbeddings(base))


def _theirs(pipeline: Any, base: Base, recipe: Recipe, request: Request) -> Tensor:
    width, height = request.size
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_sampler(recipe.sampler, base.noise_schedule)
    first = initial_latents(request.seed, request.image_index, width, height)[None]
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=recipe.steps,
        guidance_scale=recipe.guidance_scale,
        clip_skip=base.clip_skip or None,
        latents=first.to(base.device),
        width=width,
        height=height,
        output_type="latent",
    ).images


def _pipeline(base: Base, exported: Exported) -> Any:
    from diffusers import StableDiffusionPipeline

    if exported.model is None:
        parts = {"vae": base.vae, "text_encoder": base.text_encoder, "tokenizer": base.tokenizer, "unet": base.unet}
        parts |= {"scheduler": make_sampler("ddim", base.noise_schedule), "safety_checker": None}
        pipeline: Any = StableDiffusionPipeline(**parts, feature_extractor=None, requires_safety_checker=False)  # type: ignore
    elif exported.model.is_dir():
        pipeline = StableDiffusionPipeline.from_pretrained(
            exported.model, torch_dtype=torch.float32, safety_checker=None
        )
    else:
        pipeline = _from_single_file(base, exported.model)
    if exported.lora is not None:
        safe = exported.lora.suffix != ".bin"
        pipeline.load_lora_weights(
            exported.lora.parent, weight_name=exported.lora.name, use_safetensors=safe, adapter_name="exported"
        )
        pipeline.set_adapters(["exported"], [exported.strength])
    return pipeline


def _from_single_file(base: Base, file: Path) -> Any:
    """As a user's diffusers would load it, with the configuration at hand instead of the hub's."""
    from diffusers import StableDiffusionPipeline

    with tempfile.TemporaryDirectory(prefix="limner-") as folder:
        base.location.configuration.write(Path(folder))
        return StableDiffusionPipeline.from_single_file(
            str(file), config=folder, torch_dtype=torch.float32, local_files_only=True, safety_checker=None
        )


def _colours(pipeline: Any, latents: Tensor) -> Tensor:
    """Colours (1, 3, H, W) from 0 to 255."""
    pixels = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()
