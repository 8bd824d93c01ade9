"""Builds a base's modules and tokenizer from stored weights and a configuration, without a folder and offline."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from limner.base.single_file.configuration import Configuration
from limner.base.single_file.names import TEXT_MODEL
from limner.base.single_file.parts import StoredTensor, cast


def build_module(
    part: str, configuration: Configuration, stored: Mapping[str, StoredTensor], dtype: torch.dtype | None
) -> Any:
    """A part's module with its weights, in `dtype` or (None) as they are stored. Every key must exist in the module."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        module = _fresh(part, getattr(configuration, part))
    prefix = TEXT_MODEL if part == "text_encoder" and hasattr(module, "text_model") else ""
    weights = {}
    for key, weight in stored.items():
        tensor = weight.tensor()
        weights[prefix + key] = cast(tensor, dtype or tensor.dtype, key) if tensor.is_floating_point() else tensor
    module.load_state_dict(weights, strict=True, assign=True)
    return module.eval()


def _fresh(part: str, config: dict[str, Any]) -> Any:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    if part == "text_encoder":
        return CLIPTextModel(CLIPTextConfig.from_dict(config))
    return (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(config)


def build_tokenizer(configuration: Configuration) -> Any:
    """The tokenizer that the configuration's texts describe."""
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory(prefix="limner-") as folder:
        for name, text in configuration.tokenizer.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder)
