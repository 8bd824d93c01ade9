"""The family of a model from its tensors' names and shapes alone.

The names that decide are those that diffusers (`loaders/single_file_utils.py`), ComfyUI and A1111 look for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from limner.base.inspect.loras import is_lora, lora_family
from limner.base.inspect.report import UNKNOWN
from limner.base.single_file.names import (
    EMA_PREFIX,
    TEXT_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    averaged_key,
    diffusers_key,
    expected_keys,
    is_left_out,
    original_key,
)

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape | None]  # None where a file does not state it

SD15_WIDTH, SD2_WIDTH, SDXL_WIDTH, REFINER_WIDTH = 768, 1024, 2048, 1280  # of the prompt embeddings that a UNet reads
EMBEDDING_FILES = ({"emb_params"}, {"clip_l", "clip_g"}, {"clip_g"}, {"clip_l"}, {"string_to_param"})
FLUX_KEYS = ("double_blocks.0.img_attn.norm.key_norm.scale", "single_transformer_blocks.0.attn.norm_k.weight")
SD3_KEYS = ("joint_blocks.0.context_block.adaLN_modulation.1.bias", "transformer_blocks.0.attn.add_k_proj.weight")
CONTROLNET_KEYS = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")


@dataclass(frozen=True)
class Identity:
    """A family, how its weights are named, which parts there are, and what is unusual about it."""

    family: str
    layout: str = ""
    parts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def identify(shapes: Shapes) -> Identity:
    """Family of a set of tensors; "unknown" with a note where no rule holds."""
    return next(describe(shapes) for holds, describe in _RULES if holds(shapes))


def unet_family(width: int | None, channels: int | None, *, text_is_open_clip: bool = False) -> tuple[str, list[str]]:
    """Family of a Stable Diffusion UNet by the width of its prompt embeddings and its channels in, and notes."""
    if width == SDXL_WIDTH:
        return "sdxl", ["its UNet takes 9 channels: inpainting"] if channels == 9 else []
    if width == REFINER_WIDTH:
        return "sdxl-refiner", []
    family = "sd2" if width == SD2_WIDTH or (width is None and text_is_open_clip) else "sd15"
    if channels == 9:
        return f"{family}-inpainting", []
    if channels not in (4, None):
        return UNKNOWN, [f"a Stable Diffusion UNet that takes {channels} channels, where 4 or 9 are known"]
    narrow = family == "sd15" and width not in (SD15_WIDTH, None)
    return family, [f"of SD 1.5's form with prompt embeddings of {width} instead of 768"] if narrow else []


def _single_file(shapes: Shapes) -> Identity:
    parts = ["unet"]
    parts += ["vae"] if any(key.startswith(VAE_PREFIX) for key in shapes) else []
    is_clip, is_open_clip = (
        any(key.startswith(prefix) for key in shapes) for prefix in (TEXT_PREFIX, "cond_stage_model.model.")
    )
    conditioners = any(key.startswith("conditioner.embedders.") for key in shapes)
    parts += ["text_encoder"] if is_clip or is_open_clip or conditioners else []
    if conditioners:
        large = any(key.startswith("conditioner.embedders.1.") for key in shapes)
        return Identity("sdxl" if large else "sdxl-refiner", "original", parts)
    family, notes = unet_family(*_width_and_channels(shapes), text_is_open_clip=is_open_clip)
    averaged = any(key.startswith(EMA_PREFIX) for key in shapes)
    notes += ["it also has moving averages of the weights; limner convert --ema uses those"] if averaged else []
    flat = is_clip and not any(key.startswith(TEXT_PREFIX + "text_model.") for key in shapes)
    notes += ['its text encoder\'s keys lack "text_model."; limner reads them, other programs do not'] if flat else []
    problems = _incomplete(shapes, parts) if family.startswith("sd15") else []
    return Identity(family, "original", parts, problems, notes)


def _incomplete(shapes: Shapes, parts: list[str]) -> list[str]:
    """Weights of SD 1.5 that are missing, and weights that SD 1.5 does not have."""
    problems = []
    if "vae" not in parts:
        problems.append("no VAE in it: give one separately (base.vae in a study, --vae of limner convert)")
    if "text_encoder" not in parts:
        problems.append("no text encoder in it")
    places = {diffusers_key(key) for key in shapes}
    text_layers = 1 + max(
        (int(key.split(".")[2]) for part, key in filter(None, places) if part == "text_encoder" and ".layers." in key),
        default=-1,
    )
    for part in parts:
        missing = [key for key in sorted(expected_keys(part, text_layers)) if (part, key) not in places]
        if missing:
            problems.append(
                f"{len(missing)} of the {part}'s weights are missing, first {original_key(part, missing[0])}"
            )
    unexpected = [key for key in shapes if diffusers_key(key) is None and not is_left_out(key)]
    if unexpected:
        problems.append(f"{len(unexpected)} weights have no place in SD 1.5, first {unexpected[0][:100]}")
    return problems


def _width_and_channels(shapes: Shapes) -> tuple[int | None, int | None]:
    width = next((shape[1] for key, shape in shapes.items() if shape and key.endswith("attn2.to_k.weight")), None)
    first = [key for key in shapes if key.endswith("input_blocks.0.0.weight") or key == "conv_in.weight"]
    shape = shapes[first[0]] if first else None
    return width, shape[1] if shape and len(shape) > 1 else None


def _unet_alone(shapes: Shapes) -> Identity:
    if "add_embedding.linear_1.weight" in shapes or "label_emb.0.0.weight" in shapes:
        width, _ = _width_and_channels(shapes)
        return Identity("sdxl-refiner" if width == REFINER_WIDTH else "sdxl", "diffusers", ["unet"])
    layout = "diffusers" if any(key.startswith("down_blocks.") for key in shapes) else "original"
    family, notes = unet_family(*_width_and_channels(shapes))
    return Identity(family, layout, ["unet"], ["the UNet alone, without VAE and text encoder"], notes)


def _controlnet(shapes: Shapes) -> Identity:
    width, _ = _width_and_channels(shapes)
    layout = "diffusers" if _ends(shapes, CONTROLNET_KEYS[1]) else "original"
    other_families = {SD2_WIDTH: "SD 2", SDXL_WIDTH: "SDXL"}
    if width in other_families:
        return Identity(
            UNKNOWN, layout, ["controlnet"], [f"a ControlNet of {other_families[width]}; limner uses SD 1.5's"]
        )
    return Identity("controlnet-sd15", layout, ["controlnet"])


def _vae_or_nothing(shapes: Shapes) -> Identity:
    stripped = {key.removeprefix(VAE_PREFIX) for key in shapes}
    if "decoder.conv_in.weight" in stripped and "encoder.conv_in.weight" in stripped:
        original = any(key.startswith("encoder.down.") for key in stripped)
        return Identity("vae", "original" if original else "diffusers", ["vae"])
    if any("text_model.encoder.layers.0." in key or key.startswith("encoder.layers.0.") for key in shapes):
        return Identity(UNKNOWN, "", ["text_encoder"], ["a text encoder alone, without the model it belongs to"])
    return Identity(UNKNOWN, problems=["its tensors' names match no model that limner knows"])


def _is_embedding(shapes: Shapes) -> bool:
    names = set(shapes)
    if names in EMBEDDING_FILES or names & {"emb_params", "string_to_param"}:
        return True
    widths = (SD15_WIDTH, SD2_WIDTH, REFINER_WIDTH)
    vectors = [shape for shape in shapes.values() if shape and len(shape) in (1, 2) and shape[len(shape) - 1] in widths]
    return len(shapes) == 1 == len(vectors) and "." not in next(iter(names))


def _ends(shapes: Shapes, ending: str) -> bool:
    return any(key == ending or key.endswith("." + ending) for key in shapes)


def numbers_without_averages(counts: Mapping[str, int]) -> int:
    """Sum of `counts` by tensor name, moving averages left out."""
    averages = {averaged_key(key) for key in counts}
    return sum(count for key, count in counts.items() if not (key.startswith(EMA_PREFIX) and key in averages))


def _has(*endings: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(_ends(shapes, ending) for ending in endings)


def _begins(*prefixes: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(key.startswith(prefixes) for key in shapes)


_RULES: list[tuple[Callable[[Shapes], bool], Callable[[Shapes], Identity]]] = [  # the first one that matches
    (_has(*CONTROLNET_KEYS), _controlnet),
    (
        lambda shapes: UNET_PREFIX + "input_blocks.0.0.weight" in shapes,
        _single_file,
    ),  # even if other tensors were left in it
    (is_lora, lambda shapes: Identity(*lora_family(shapes))),
    (_is_embedding, lambda shapes: Identity("textual-inversion", "embedding")),
    (_has(FLUX_KEYS[0]), lambda shapes: Identity("flux", "original")),
    (_has(FLUX_KEYS[1]), lambda shapes: Identity("flux", "diffusers")),
    (_has(SD3_KEYS[0]), lambda shapes: Identity("sd3", "original")),
    (_has(SD3_KEYS[1]), lambda shapes: Identity("sd3", "diffusers")),
    (_begins(UNET_PREFIX), _single_file),
    (_begins("down_blocks.", "input_blocks."), _unet_alone),
    (lambda shapes: True, _vae_or_nothing),
]
