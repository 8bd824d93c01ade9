"""The family and the form of a LoRA, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...] | None]

LORA_MARKS = (
    ".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.",
    ".lora_linear_layer.", ".hada_w1_a", ".hada_w1_b", ".lokr_w1", ".lokr_w2", ".oft_blocks", ".oft_diag", ".oft_R.",
    ".oft_r", ".dora_scale", ".bora_scale",
)  # fmt: skip
PREFIXES = ("lora_", "lycoris_", "oft_unet_")  # of the files in which the end of a key decides
ENDS = (".diff", ".diff_b", ".w_norm", ".b_norm", ".on_input", ".a1.weight", ".b1.weight")
FORMS = {  # tried in this order; the first that is part of a key decides
    ".dora_scale": "DoRA", ".lora_magnitude_vector": "DoRA", ".bora_scale": "BoRA", ".hada_t1": "LoHa with cores",
    ".hada_w1_a": "LoHa", ".lokr_t2": "LoKr with cores", ".lokr_w": "LoKr", ".oft_": "OFT",
    ".lora_mid.": "LoCon with cores", ".a1.weight": "GLoRA", ".on_input": "IA3",
}  # fmt: skip
DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight", "_lora.down.weight")
DOWN += (".lora_linear_layer.down.weight",)
OTHER_FAMILIES = (  # families whose layer names no Stable Diffusion has
    "double_blocks", "single_blocks", "single_transformer_blocks", "joint_blocks", "joint_transformer_blocks",
    "lora_te3_",
    "lora_transformer_", "transformer.transformer_blocks", "llm_adapter", "lora_prior_",
)  # fmt: skip
SDXL_MARKS = ("lora_te2_", "lora_te1_", "text_encoder_2.", "add_embedding", "label_emb")
SDXL_DEPTH = re.compile(r"transformer_blocks[._][1-9]")  # SD 1.5's and SD 2's transformers are one block deep
SD15_UNET = re.compile(r"(down|up)_blocks[._]\d[._]|mid_block[._](attentions|resnets)[._]")


def is_lora(shapes: Shapes) -> bool:
    """Whether any tensor is part of a low-rank update or of one of LyCORIS' alternatives."""
    marked = any(mark in key for key in shapes for mark in LORA_MARKS)
    return marked or any(key.startswith(PREFIXES) and key.endswith(ENDS) for key in shapes)


def lora_family(shapes: Shapes) -> tuple[str, str, list[str], list[str], list[str]]:
    """Family, layout, parts, problems and notes of a LoRA."""
    parts = [part for part, marks in _PART_MARKS.items() if any(key.startswith(marks) for key in shapes)]
    family = _family(shapes)
    notes = [f"its form is {form}"] if (form := lora_form(shapes)) != "LoRA" else []
    ranks = sorted({shape[0] for key, shape in shapes.items() if shape and key.endswith(DOWN)})
    notes += [f"rank {', '.join(map(str, ranks))}"] if ranks else []
    return family, lora_layout(shapes), parts, [], notes


_PART_MARKS = {
    "unet": ("lora_unet_", "oft_unet_", "unet.", "base_model.model.unet.", "down_blocks.", "up_blocks.", "mid_block."),
    "text_encoder": ("lora_te_", "lora_te1_", "text_encoder.", "base_model.model.text_model."),
    "text_encoder_2": ("lora_te2_", "text_encoder_2."),
}


def lora_layout(shapes: Shapes) -> str:
    """How its keys are named."""
    if any(key.startswith(PREFIXES) for key in shapes):
        return "kohya"
    if any(key.startswith("base_model.model.") for key in shapes):
        return "PEFT"
    if any(".lora_A." in key for key in shapes):
        return "diffusers"
    return "old diffusers"


def lora_form(shapes: Shapes) -> str:
    """LoRA or a relative: LoCon (convolutions too), LoHa, LoKr, DoRA, OFT, full differences."""
    for mark, form in FORMS.items():
        keys = [key for key in shapes if mark in key]
        if keys:
            in_rows = any(len(shapes[key] or ()) == 4 for key in keys if key.endswith((".oft_blocks", ".oft_diag")))
            return "BOFT" if in_rows else form
    if not any(mark in key for key in shapes for mark in LORA_MARKS):
        return "full differences"
    wide = any(shape and len(shape) == 4 and shape[-1] > 1 for key, shape in shapes.items() if key.endswith(DOWN))
    return "LoCon" if wide else "LoRA"


def _family(shapes: Shapes) -> str:
    if any(mark in key for key in shapes for mark in OTHER_FAMILIES):
        return "lora-other"
    widths = {shape[1] for key, shape in shapes.items() if shape and len(shape) > 1 and _is_cross_attention(key)}
    sdxl = any(mark in key for key in shapes for mark in SDXL_MARKS[:1] + SDXL_MARKS[2:])
    if sdxl or 2048 in widths or any(SDXL_DEPTH.search(key) for key in shapes):
        return "lora-sdxl"
    if 1280 in widths:
        return "lora-other"  # the refiner's
    if 1024 in widths or 1024 in _text_widths(shapes):
        return "lora-sd2"
    of_text = any(_is_text_key(key) for key in shapes)
    return "lora-sd15" if of_text or any(SD15_UNET.search(key) for key in shapes) else "lora-other"


def _is_cross_attention(key: str) -> bool:
    named = re.search(r"attn2[._](processor\.)?to_[kv](_lora)?\.", key) is not None
    return named and key.endswith((*DOWN, ".hada_w1_b", ".hada_w2_b", ".diff"))


def _text_widths(shapes: Shapes) -> set[int]:
    keys = (key for key in shapes if _is_text_key(key) and re.search(r"(q|k|v)_proj", key))
    return {shape[1] for key in keys if (shape := shapes[key]) and len(shape) > 1 and key.endswith(DOWN)}


def _is_text_key(key: str) -> bool:
    return key.startswith(("lora_te_", "lora_te1_", "text_encoder.")) or "text_model.encoder" in key
