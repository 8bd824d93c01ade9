"""How other programs name SD 1.5's layers, and back to ours: the module and diffusers' layer name.

kohya (`networks/lora.py`) joins the path with underscores behind `lora_unet_` or `lora_te_`; since a layer's name has
underscores of its own, the way back is a look-up. LoRAs trained on the original layout (LyCORIS, old A1111 tools) have
`input_blocks_4_1_…` instead. diffusers' old attention processors put `processor` and `_lora` into the path.
"""

from __future__ import annotations

import re
from functools import cache

from limner.base.single_file.names import TEXT_MODEL, TO_ORIGINAL

UNET, TEXT = "unet", "text_encoder"
KOHYA_PREFIXES = {UNET: "lora_unet_", TEXT: "lora_te_text_model_"}
MOST_TEXT_LAYERS = 32
TEXT_NORMS = ("layer_norm1", "layer_norm2")
TEXT_LAYERS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
NORMS = (".norm", ".norm1", ".norm2", ".norm3", "conv_norm_out")
WIDE = ("conv_in", "conv_out", "conv1", "conv2", "samplers.0.conv")  # kernels of 3x3
NARROW = ("conv_shortcut", ".proj_in", ".proj_out")  # of 1x1
OTHER_PREFIX = re.compile("^(lycoris|oft_unet)_")
OLD_ATTENTION = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$|\.(to_[qkv]|to_out)_lora$")
OLD_TEXT = re.compile(r"\.(to_)?(q|k|v|out)_lora$|\.lora_linear_layer$")


@cache
def layers(module: str) -> tuple[str, ...]:
    """Every layer of SD 1.5's module that a low-rank update can be beside, by diffusers' present name."""
    if module == TEXT:
        return tuple(f"encoder.layers.{index}.{name}" for index in range(MOST_TEXT_LAYERS) for name in TEXT_LAYERS)
    return tuple(layer for layer in TO_ORIGINAL[UNET] if not layer.endswith(NORMS))


@cache
def norms(module: str) -> tuple[str, ...]:
    """Every norm of SD 1.5's module, by diffusers' present name: LyCORIS trains them too."""
    if module == TEXT:
        text_norms = [f"encoder.layers.{index}.{name}" for index in range(MOST_TEXT_LAYERS) for name in TEXT_NORMS]
        return (*text_norms, "final_layer_norm")
    return tuple(layer for layer in TO_ORIGINAL[UNET] if layer.endswith(NORMS))


def kernel_px(module: str, layer: str) -> int:
    """Side of a layer's kernel in SD 1.5: 3 or 1 for a convolution, 0 for a matrix."""
    if module != UNET or not layer.endswith(WIDE + NARROW):
        return 0
    return 3 if layer.endswith(WIDE) else 1


def kohya_name(module: str, layer: str) -> str:
    """What kohya calls a layer."""
    return KOHYA_PREFIXES[module] + layer.removeprefix(TEXT_MODEL).replace(".", "_")


@cache
def _kohya_layers() -> dict[str, tuple[str, str]]:
    named = [(module, layer) for module in (UNET, TEXT) for layer in (*layers(module), *norms(module))]
    layer_names = {kohya_name(*layer_key): layer_key for layer_key in named}
    for module, layer in named:
        if module == UNET:
            layer_names.setdefault("lora_unet_" + TO_ORIGINAL[UNET][layer].replace(".", "_"), (UNET, layer))
    layer_names |= {
        name.replace("lora_te_", "lora_te1_"): layer_key
        for name, layer_key in layer_names.items()
        if layer_key[0] == TEXT
    }
    return layer_names


@cache
def _dotted_layers() -> dict[str, tuple[str, str]]:
    layer_names = {f"{UNET}.{layer}": (UNET, layer) for layer in (*layers(UNET), *norms(UNET))}
    for layer in (*layers(TEXT), *norms(TEXT)):
        layer_names |= {f"{TEXT}.{layer}": (TEXT, layer), f"{TEXT}.{TEXT_MODEL}{layer}": (TEXT, layer)}
    return layer_names


def is_norm(module: str, layer: str) -> bool:
    """Whether a layer is a norm, which has no low-rank update."""
    return layer in norms(module)


def layer_of_name(stem: str) -> tuple[str, str] | None:
    """Module and layer or norm of a key without its ending, however it is spelt; None for what SD 1.5 has not."""
    stem = OTHER_PREFIX.sub("lora_unet_", stem.removeprefix("lycoris_") if "lycoris_lora_" in stem else stem)
    if stem in _kohya_layers():
        return _kohya_layers()[stem]
    dotted = stem.removeprefix("base_model.model.").removeprefix("diffusion_model.")
    if not dotted.startswith((f"{UNET}.", f"{TEXT}.")):
        dotted = f"{TEXT if dotted.startswith((TEXT_MODEL, 'encoder.')) else UNET}.{dotted}"
    return _dotted_layers().get(_present(dotted))


def _present(dotted: str) -> str:
    """Today's spelling of diffusers' old ones."""
    if dotted.startswith(TEXT):
        dotted = OLD_TEXT.sub(lambda match: f".{match[2]}_proj" if match[2] else "", dotted)
    dotted = OLD_ATTENTION.sub(lambda match: f".{match[1] or match[2]}", dotted).replace(".processor.", ".")
    return f"{dotted}.0" if dotted.endswith(".to_out") else dotted
