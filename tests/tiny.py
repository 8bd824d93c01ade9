"""Writes the tiny random base that the tests train and render."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from miniature.tokenizer import build_vocabulary

WORDS = [
    "a",
    "an",
    "the",
    "of",
    "in",
    "on",
    "at",
    "with",
    "and",
    "photo",
    "portrait",
    "picture",
    "sketch",
    "pencil",
    "sks",
    "ohwx",
    "zwx",
    "cat",
    "dog",
    "woman",
    "man",
    "face",
    "garden",
    "forest",
    "street",
    "night",
    "snow",
    "close",
    "up",
    "sunny",
    "blurry",
    "deformed",
    "ugly",
    "low",
    "quality",
    "best",
]
CHANNELS, GROUPS, TEXT_WIDTH, SIZE_PX = (8, 8, 16, 16), 4, 16, 64
PROJECTION_WIDTH = 16


def write_tokenizer(folder: Path) -> None:
    """CLIP tokenizer files in which every one of WORDS is a single token and any text can be written."""
    vocabulary, merges = build_vocabulary(WORDS)  # the tokenizers library's trainer breaks ties by its hash seed
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_tiny_base(folder: Path) -> Path:
    """A whole diffusers folder: unet, vae, text_encoder, tokenizer, scheduler, controlnet, clip, limner.json."""
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    write_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    shared = {"block_out_channels": CHANNELS, "norm_num_groups": GROUPS, "layers_per_block": 2}
    cross = {"cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 2}
    unet = UNet2DConditionModel(sample_size=SIZE_PX // 8, **shared, **cross)
    unet.save_pretrained(folder / "unet")
    controlnet = ControlNetModel(**shared, **cross, conditioning_embedding_out_channels=(4, 4, 8, 8))
    for parameter in controlnet.parameters():  # its outputs start at zero, and tests want to see it act
        torch.nn.init.normal_(parameter, std=0.05) if not parameter.any() else None
    controlnet.save_pretrained(folder / "controlnet")
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    AutoencoderKL(latent_channels=4, down_block_types=down, up_block_types=up, **shared).save_pretrained(folder / "vae")
    text = {
        "vocab_size": len(tokenizer), "hidden_size": TEXT_WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 77, "projection_dim": PROJECTION_WIDTH,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    text_encoder = CLIPTextModel(CLIPTextConfig(**text))
    text_encoder.save_pretrained(folder / "text_encoder")
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8, "projection_dim": PROJECTION_WIDTH,
    }  # fmt: skip
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION_WIDTH))
    _write_clip(folder / "clip", clip)
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline", "safety_checker": [None, None], "feature_extractor": [None, None],
        "requires_safety_checker": False, "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "limner.json").write_text(json.dumps({"defaults": TINY_DEFAULTS}))
    return folder


def _write_clip(folder: Path, clip) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    clip.config.to_json_file(folder / "config.json")
    own = {
        name: tensor.contiguous() for name, tensor in clip.state_dict().items() if not name.startswith("text_model.")
    }
    save_file(own, folder / "model.safetensors", metadata={"format": "pt"})


TINY_DEFAULTS = {
    "prepare": {"size_px": SIZE_PX},
    "class_images": {"count": 3, "steps": 2, "batch_size": 2},
    "variants": {
        "full": {"steps": 3, "learning_rate": 1e-3},
        "lora": {"steps": 3, "learning_rate": 1e-2, "rank": [2]},
    },
    "render": {"steps": 2, "size": [SIZE_PX, SIZE_PX]},
    "control": {"model": "base", "steps": 2},
    "measure": {"likeness": ["efficientnet-lite0"], "prompt_fidelity": "base"},
}
