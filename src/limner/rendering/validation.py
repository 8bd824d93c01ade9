"""The validation pictures of a training run: work/VARIANT/validation/STEP-N.png."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from limner.artifacts import write_whole
from limner.base import Base, placed
from limner.config import Subject, Validation
from limner.rendering.batch import Recipe, Request
from limner.rendering.parameters import generation_parameters, model_name
from limner.rendering.png import encode_png
from limner.rendering.quick import recommended_render, render_validation

FOLDER = "validation"
PIXELS_AT_ONCE = 4 * 512 * 512


def validation_prompts(subject: Subject, settings: Validation, *, as_class: bool = False) -> list[str]:
    """The prompt of every picture of a validation, placeholders filled; `as_class` for the base, without identifier."""
    filled = [subject.fill(prompt, as_class=as_class) for prompt in settings.rendered_prompts]
    return [prompt for prompt in filled for _ in range(settings.count)]


def validation_recipe(base: Base) -> tuple[Recipe, tuple[int, int]]:
    """The base's recommended sampler, steps and guidance, and its size."""
    chosen = recommended_render(base)
    return Recipe(chosen.sampler, chosen.steps, chosen.guidance_scale), chosen.size


def validation_pictures(base: Base, prompts: Sequence[str], seed: int, *, vae_batch_size: int = 4) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 of the base's modules as they are now; picture N has the same initial noise every
    time.

    Parts that are on the CPU are moved to the device meanwhile.
    """
    recipe, size = validation_recipe(base)
    at_once = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    with placed(base, "text_encoder", "vae", "unet"):
        return render_validation(
            base, prompts, seed, recipe=recipe, size=size, batch_size=at_once, vae_batch_size=vae_batch_size
        )


def validation_renderer(
    base: Callable[[], Base], subject: Subject, settings: Validation, folder: Path, *, vae_batch_size: int = 4
) -> Callable[[int], np.ndarray] | None:
    """A function of the step that renders a validation's pictures from the base in its present state of training.

    It returns them (N, H, W, 3) uint8, and they go to folder/validation/STEP-N.png. None when `settings.every_steps`
    is 0.
    """
    if settings.every_steps == 0:
        return None
    prompts = validation_prompts(subject, settings)

    def validate(step: int) -> np.ndarray:
        loaded = base()
        recipe, size = validation_recipe(loaded)
        images = validation_pictures(loaded, prompts, settings.seed, vae_batch_size=vae_batch_size)
        model = (f"{model_name(loaded)}, training step {step}", "")
        for index, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
            request = Request(prompt, "", settings.seed, index, size)
            stamp = {"step": step, "prompt": prompt, "seed": settings.seed, "image_index": index}
            content = encode_png(image, stamp, generation_parameters(recipe, request, model))
            write_whole(folder / FOLDER / f"{step:06d}-{index}.png", content)
        return images

    return validate
