"""Random bases in the exact shapes of Stable Diffusion 1.5, for speed and memory: what they draw means nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from miniature.tokenizer import byte_symbols

VOCABULARY_SIZE = 49_408
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
SCHEDULE = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False,
    "prediction_type": "epsilon",
}  # fmt: skip
INDEX = {
    "_class_name": "StableDiffusionPipeline", "safety_checker": [None, None], "feature_extractor": [None, None],
    "image_encoder": [None, None], "requires_safety_checker": False, "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
}  # fmt: skip


@dataclass(frozen=True)
class Shapes:
    """Widths of one base; all else is SD 1.5's."""

    unet_channels: tuple[int, ...]
    vae_channels: tuple[int, ...]
    groups: int
    attention_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    hint_channels: tuple[int, ...]
    size_px: int


SD15 = Shapes((320, 640, 1280, 1280), (128, 256, 512, 512), 32, 8, 768, 12, 12, (16, 32, 96, 256), 512)
TINY = Shapes((8, 8, 16, 16), (8, 8, 16, 16), 4, 2, 16, 2, 2, (4, 4, 8, 8), 64)


def write_base(folder: Path, shapes: Shapes = SD15, device: str = "cpu", *, seed: int = 0) -> Path:
    """A diffusers folder, ControlNet included, with weights from `seed` in fp16, the text encoder's in fp32.

    One that is there is kept.
    """
    if (folder / "model_index.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    _write_tokenizer(folder / "tokenizer")
    torch.manual_seed(seed)
    for name, make in _parts(shapes).items():
        with torch.device(device):
            module = make()
        for parameter in module.parameters():  # a ControlNet's outputs start at zero; a trained one's are not
            torch.nn.init.normal_(parameter, std=0.02) if not parameter.any() else None
        # train_dreambooth.py refuses a text encoder that is not stored in fp32
        (module if name == "text_encoder" else module.half()).save_pretrained(folder / name)
        del module
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULE), encoding="utf-8")
    (folder / "model_index.json").write_text(json.dumps(INDEX), encoding="utf-8")  # last: the folder is whole
    return folder


def with_fp32_text_encoder(base: Path, folder: Path) -> Path:
    """`base` again in `folder`, its text encoder stored in fp32 as train_dreambooth.py wants it, all else linked."""
    from transformers import CLIPTextModel

    if folder.exists():
        return folder
    whole = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    for part in base.resolve().iterdir():
        if part.name != "text_encoder":
            (whole / part.name).symlink_to(part)
    CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).save_pretrained(whole / "text_encoder")
    whole.rename(folder)
    return folder


def _parts(shapes: Shapes) -> dict[str, Any]:
    """What makes each part, in the library's own initial spread."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    denoiser: dict[str, Any] = {
        "block_out_channels": shapes.unet_channels, "norm_num_groups": shapes.groups, "layers_per_block": 2,
        "cross_attention_dim": shapes.text_width, "attention_head_dim": shapes.attention_heads,
    }  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=VOCABULARY_SIZE, hidden_size=shapes.text_width, intermediate_size=4 * shapes.text_width,
        num_hidden_layers=shapes.text_layers, num_attention_heads=shapes.text_heads, max_position_embeddings=77,
        projection_dim=shapes.text_width, bos_token_id=VOCABULARY_SIZE - 2, eos_token_id=VOCABULARY_SIZE - 1,
        pad_token_id=VOCABULARY_SIZE - 1,
    )  # fmt: skip
    autoencoder: dict[str, Any] = {
        "block_out_channels": shapes.vae_channels, "norm_num_groups": shapes.groups, "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4, "sample_size": shapes.size_px,
    }  # fmt: skip
    return {
        "unet": lambda: UNet2DConditionModel(sample_size=shapes.size_px // 8, **denoiser),
        "vae": lambda: AutoencoderKL(**autoencoder),
        "text_encoder": lambda: CLIPTextModel(text),
        "controlnet": lambda: ControlNetModel(conditioning_embedding_out_channels=shapes.hint_channels, **denoiser),
    }


def _write_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer files without a single merge: every byte is a token, and the special tokens have CLIP's ids."""
    folder.mkdir(parents=True)
    symbols = byte_symbols()
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    tokens += [f"unused{number}</w>" for number in range(VOCABULARY_SIZE - 2 - len(tokens))]
    vocabulary = {token: index for index, token in enumerate([*tokens, BOS, EOS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | special), encoding="utf-8")
