"""The family's networks, in Stable Diffusion 1.5's topology with few channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from miniature import settings
from miniature.files import read_json


def build_vae() -> AutoencoderKL:
    """8x down, 4 latent channels, 5.3 M parameters."""
    return AutoencoderKL(
        block_out_channels=settings.VAE_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=settings.PICTURE_PX,
    )


def build_clip(tokenizer: Any) -> CLIPModel:
    """Both towers, 3.5 M parameters. The pooled feature is read at the eos token, so its id must be the tokenizer's."""
    shared = {"hidden_act": "quick_gelu", "num_attention_heads": settings.HEADS, "projection_dim": settings.TEXT_HIDDEN}
    text = shared | {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.TEXT_HIDDEN,
        "intermediate_size": 4 * settings.TEXT_HIDDEN,
        "num_hidden_layers": settings.TEXT_LAYERS,
        "max_position_embeddings": settings.MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = shared | {
        "hidden_size": settings.VISION_HIDDEN,
        "intermediate_size": 4 * settings.VISION_HIDDEN,
        "num_hidden_layers": settings.VISION_LAYERS,
        "image_size": settings.CLIP_PX,
        "patch_size": 16,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.TEXT_HIDDEN))


def build_unet() -> UNet2DConditionModel:
    """11.4 M parameters; `attention_head_dim` means the number of heads, as in Stable Diffusion 1.5."""
    return UNet2DConditionModel(
        sample_size=settings.LATENT_PX,
        block_out_channels=settings.UNET_CHANNELS,
        layers_per_block=2,
        attention_head_dim=4,
        norm_num_groups=16,
        cross_attention_dim=settings.TEXT_HIDDEN,
    )


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """4.8 M parameters, starting from the UNet's encoder (Zhang et al. 2023, arXiv 2302.05543)."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=settings.CONTROL_CHANNELS)


def seeded(build: Any, seed: int, *arguments: Any) -> Any:
    """Build a network with reproducible initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


def load_trained(model: nn.Module, work: Path, part: str) -> nn.Module:
    """Put a part's averaged weights into `model` and freeze it."""
    model.load_state_dict(load_file(str(work / part / "ema.safetensors")))
    return model.eval().requires_grad_(False)


def vae_scaling_factor(work: Path) -> float:
    """One over the standard deviation of the latents, measured after the VAE's training."""
    return float(read_json(work / "vae" / "result.json")["scaling_factor"])
