"""The name of each weight of SD 1.5 in a single file of the original latent-diffusion layout, and back.

The original numbers all blocks in one sequence (`input_blocks.0` is the first convolution, then two layers and a
downsampler a level); diffusers nests them by level. Both tables are written from that rule. Rombach et al.,
`ldm/modules/diffusionmodules/openaimodel.py` and `model.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

WEIGHT_PARTS = ("unet", "vae", "text_encoder")  # the parts of a base that have weights
LEVELS, LAYERS = 4, 2  # of the UNet and of the VAE

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
TRANSFORMER_PROJECTIONS = tuple(f"attn{n}.{name}" for n in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0"))
TRANSFORMER_NORMS = ("norm1", "norm2", "norm3")
TRANSFORMER_LINEARS = (*TRANSFORMER_PROJECTIONS, "ff.net.0.proj", "ff.net.2")
ATTENTION = (
    "norm",
    "proj_in",
    "proj_out",
    *(f"transformer_blocks.0.{name}" for name in TRANSFORMER_NORMS + TRANSFORMER_LINEARS),
)
VAE_RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # diffusers below 0.17

UNET_PREFIX, VAE_PREFIX, TEXT_PREFIX = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
TEXT_MODEL = "text_model."  # transformers 5.6 dropped this level; every reader of the original layout needs it
EMA_PREFIX = "model_ema."
PREFIXES = {"unet": UNET_PREFIX, "vae": VAE_PREFIX, "text_encoder": TEXT_PREFIX + TEXT_MODEL}

LEFT_OUT = (  # keys of the original layout that no picture depends on
    "text_model.embeddings.position_ids",
    "embeddings.position_ids",
    "cond_stage_model.logit_scale",
    "cond_stage_model.transformer.logit_scale",
    "cond_stage_model.transformer.text_projection",
    "cond_stage_model.transformer.text_projection.weight",
    "first_stage_model.loss.",
    "first_stage_model.model_ema.",
    "model.diffusion_model.v_pred",
)


def _nested(stem: str, original: str, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, original_name in names.items():
        yield f"{stem}.{name}", f"{original}.{original_name}"


def _unet() -> Iterator[tuple[str, str]]:
    attention = {name: name for name in ATTENTION}
    yield from {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }.items()
    for level in range(LEVELS):
        for layer in range(LAYERS):
            block = f"input_blocks.{(LAYERS + 1) * level + layer + 1}"
            yield from _nested(f"down_blocks.{level}.resnets.{layer}", f"{block}.0", RESNET)
            if level < LEVELS - 1:
                yield from _nested(f"down_blocks.{level}.attentions.{layer}", f"{block}.1", attention)
        for layer in range(LAYERS + 1):
            block = f"output_blocks.{(LAYERS + 1) * level + layer}"
            yield from _nested(f"up_blocks.{level}.resnets.{layer}", f"{block}.0", RESNET)
            if level > 0:
                yield from _nested(f"up_blocks.{level}.attentions.{layer}", f"{block}.1", attention)
        if level < LEVELS - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{(LAYERS + 1) * (level + 1)}.0.op"
            index = 1 if level == 0 else 2  # after the attention, which the innermost level lacks
            block = f"output_blocks.{(LAYERS + 1) * level + LAYERS}"
            yield f"up_blocks.{level}.upsamplers.0.conv", f"{block}.{index}.conv"
    yield from _nested("mid_block.resnets.0", "middle_block.0", RESNET)
    yield from _nested("mid_block.attentions.0", "middle_block.1", attention)
    yield from _nested("mid_block.resnets.1", "middle_block.2", RESNET)


def _vae() -> Iterator[tuple[str, str]]:
    yield from {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}.items()
    for side in ("encoder", "decoder"):
        for name, original in {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}.items():
            yield f"{side}.{name}", f"{side}.{original}"
        for index in range(2):
            yield from _nested(f"{side}.mid_block.resnets.{index}", f"{side}.mid.block_{index + 1}", VAE_RESNET)
        yield from _nested(f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1", VAE_ATTENTION)
    for level in range(LEVELS):
        decoder_level = LEVELS - 1 - level  # the original counts the decoder's levels from the picture inwards
        for layer in range(LAYERS):
            yield from _nested(
                f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}", VAE_RESNET
            )
        for layer in range(LAYERS + 1):
            yield from _nested(
                f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{decoder_level}.block.{layer}", VAE_RESNET
            )
        if level < LEVELS - 1:
            yield f"encoder.down_blocks.{level}.downsamplers.0.conv", f"encoder.down.{level}.downsample.conv"
            yield f"decoder.up_blocks.{level}.upsamplers.0.conv", f"decoder.up.{decoder_level}.upsample.conv"


TO_ORIGINAL: dict[str, dict[str, str]] = {"unet": dict(_unet()), "vae": dict(_vae())}
"""Layer names of diffusers to those of the original layout."""
FROM_ORIGINAL = {part: {original: name for name, original in table.items()} for part, table in TO_ORIGINAL.items()}


def original_key(part: str, key: str) -> str:
    """A key of the original layout for diffusers' (text encoder: without "text_model."). KeyError for unknown ones."""
    if part == "text_encoder":
        return PREFIXES[part] + key
    layer, _, leaf = key.rpartition(".")
    return f"{PREFIXES[part]}{TO_ORIGINAL[part][layer]}.{leaf}"


def diffusers_key(original: str) -> tuple[str, str] | None:
    """Part and key of diffusers for a key of the original layout; None for a key that is not a weight of SD 1.5."""
    if original.startswith(TEXT_PREFIX):
        return "text_encoder", original.removeprefix(TEXT_PREFIX).removeprefix(TEXT_MODEL)
    for part in ("unet", "vae"):
        if original.startswith(PREFIXES[part]):
            layer, _, leaf = original.removeprefix(PREFIXES[part]).rpartition(".")
            name = FROM_ORIGINAL[part].get(layer)
            return (part, f"{name}.{leaf}") if name else None
    return None


def is_left_out(original: str) -> bool:
    """Whether a key of the original layout is not a weight: buffers, the VAE's loss, averages, the trainer's state."""
    in_a_part = original.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model."))
    return not in_a_part or any(
        original == name or (name.endswith(".") and original.startswith(name)) or original.endswith("." + name)
        for name in LEFT_OUT
    )


def averaged_key(original: str) -> str:
    """The key of the moving average of a UNet's weight: latent diffusion's LitEma removes the dots."""
    return EMA_PREFIX + original.removeprefix("model.").replace(".", "")


def is_channels_by_channels(part: str, key: str) -> bool:
    """Whether the original layout holds a matrix of diffusers' as a 1x1 convolution: the VAE's attention."""
    layer, _, leaf = key.rpartition(".")
    return part == "vae" and leaf == "weight" and ".attentions.0.to_" in layer


def canonical_key(part: str, key: str) -> str:
    """Diffusers' present name for a key of a folder, old or new; a text encoder's without "text_model."."""
    if part == "text_encoder":
        return key.removeprefix(TEXT_MODEL)
    layer, _, leaf = key.rpartition(".")
    head, _, last = layer.rpartition(".")
    if part == "vae" and last in OLD_VAE_ATTENTION and ".attentions." in head:
        return f"{head}.{OLD_VAE_ATTENTION[last]}.{leaf}"
    return key


def expected_keys(part: str, text_layers: int = 12) -> set[str]:
    """Every key that SD 1.5's part always has: shortcuts exist only where channels change."""
    if part == "text_encoder":
        return _text_keys(text_layers)
    layers = [layer for layer in TO_ORIGINAL[part] if not layer.endswith("conv_shortcut")]
    without_bias = (".to_q", ".to_k", ".to_v") if part == "unet" else ()
    weights = {f"{layer}.weight" for layer in layers}
    return weights | {f"{layer}.bias" for layer in layers if not layer.endswith(without_bias)}


def _text_keys(layers: int) -> set[str]:
    inner = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    inner += ["mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2"]
    stems = [f"encoder.layers.{index}.{name}" for index in range(layers) for name in inner] + ["final_layer_norm"]
    embeddings = {f"embeddings.{name}_embedding.weight" for name in ("token", "position")}
    return embeddings | {f"{stem}.{leaf}" for stem in stems for leaf in ("weight", "bias")}
