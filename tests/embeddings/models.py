"""Tiny random checkpoints in transformers' layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def write_vision_transformer(folder: Path, model_type: str = "vit") -> Path:
    """A ViT for 32x32 pictures."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(model_type, image_size=32, patch_size=8, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    record = {
        "do_center_crop": True, "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(record))
    return folder


def write_whole_clip(base: Path, folder: Path) -> Path:
    """The base's pair as one whole checkpoint."""
    from transformers import CLIPTextModel

    shutil.copytree(base / "tokenizer", folder)
    shutil.copy(base / "clip" / "config.json", folder)
    text = CLIPTextModel.from_pretrained(base / "text_encoder").state_dict()
    tower = {"text_model." + key.removeprefix("text_model."): value for key, value in text.items()}
    whole = {**tower, **load_file(base / "clip" / "model.safetensors")}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def with_eos_id(base: Path, folder: Path, eos_id: int) -> Path:
    """A copy of the base whose pair reads texts at another token."""
    shutil.copytree(base, folder)
    for file in ("clip/config.json", "text_encoder/config.json"):
        record = json.loads((folder / file).read_text())
        record.get("text_config", record)["eos_token_id"] = eos_id
        (folder / file).write_text(json.dumps(record))
    return folder
