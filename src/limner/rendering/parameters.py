"""The "parameters" text of a picture, in the AUTOMATIC1111 web UI's format, which many programs read."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from limner.base import Base
from limner.rendering.batch import Recipe, Request

SAMPLER_TITLES = {"ddim": "DDIM", "unipc": "UniPC", "dpm++": "DPM++ 2M", "euler": "Euler"}
SHORT_HASH = 10  # digits of a hash, as the web UI shows it


def generation_parameters(
    recipe: Recipe,
    request: Request,
    model: tuple[str, str],
    low_rank: tuple[str, str] | None = None,
    *,
    strength: float = 1.0,
    clip_skip: int = 0,
    control: str = "",
) -> str:
    """Prompt (with the web UI's tag for a LoRA), negative prompt unless empty, and the settings on one line.

    `model` and `low_rank` are a name and a SHA-256 (empty where unknown) each; `control` describes a ControlNet.
    """
    tag = f" <lora:{low_rank[0]}:{strength:g}>" if low_rank else ""
    negative = [f"Negative prompt: {request.negative_prompt}"] if request.negative_prompt else []
    fields: dict[str, Any] = {
        "Steps": recipe.steps,
        "Sampler": SAMPLER_TITLES[recipe.sampler],
        "CFG scale": f"{recipe.guidance_scale:g}",
        "Seed": request.seed,
        "Size": f"{request.size[0]}x{request.size[1]}",
        "Model hash": model[1][:SHORT_HASH],
        "Model": model[0],
        "Image index": request.image_index or "",
        "Clip skip": clip_skip + 1 if clip_skip else "",  # the web UI counts from 1
        "Lora hashes": f"{low_rank[0]}: {low_rank[1][:SHORT_HASH]}" if low_rank and low_rank[1] else "",
        "ControlNet 0": control,
        "Version": "limner",
    }
    settings = ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items() if value != "")
    return "\n".join([request.prompt + tag, *negative, settings])


def model_name(base: Base) -> str:
    """The base's name without path, owner or file extension."""
    return PurePath(base.location.name).name.removesuffix(".safetensors")


def _quoted(value: Any) -> str:
    """Values with a comma, colon, quote or line break are quoted as JSON, as the web UI does."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text
