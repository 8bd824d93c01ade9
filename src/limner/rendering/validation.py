"""Pictures a training run shows itself by: work/VARIANT/validation/STEP-N.png."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from limner.artifacts import write_whole
from limner.base import Base, placed
from limner.config import Subject, Validation
from limner.rendering.batch import Recipe, Request
from limner.rendering.parameters import generation_parameters, model_name
from limner.rendering.png import encode_png
from limner.rendering.quick import recommended_render, render_validation

FOLDER = "validation"


def validation_renderer(
    base: Callable[[], Base], subject: Subject, settings: Validation, folder: Path, *, vae_batch_size: int = 4
) -> Callable[[int], None] | None:
    """A function of the step that renders `settings.count` pictures from the base as training has it just then.

    They go to folder/validation/STEP-N.png, with the base's recommended sampler, steps, guidance and size; picture
    N has the same first noise every time. Parts that wait on the CPU are on the device meanwhile. None when
    `settings.every_steps` is 0.
    """
    if settings.every_steps == 0:
        return None
    prompt = subject.fill(settings.prompt)

    def validate(step: int) -> None:
        loaded = base()
        chosen = recommended_render(loaded)
        recipe = Recipe(chosen.sampler, chosen.steps, chosen.guidance_scale)
        prompts = [prompt] * settings.count
        with placed(loaded, "text_encoder", "vae"):
            images = render_validation(
                loaded, prompts, settings.seed, recipe=recipe, size=chosen.size, vae_batch_size=vae_batch_size
            )
        model = (f"{model_name(loaded)}, training step {step}", "")
        for index, image in enumerate(images):
            request = Request(prompt, "", settings.seed, index, chosen.size)
            stamp = {"step": step, "prompt": prompt, "seed": settings.seed, "image_index": index}
            content = encode_png(image, stamp, generation_parameters(recipe, request, model))
            write_whole(folder / FOLDER / f"{step:06d}-{index}.png", content)

    return validate
