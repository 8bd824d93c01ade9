"""CLIP pairs (Radford et al. 2021): pictures and texts in one space.

A pair is either a complete checkpoint or the base's: there `clip/` holds everything except the text tower, which is
the base's text encoder and so is stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.base import tokenize
from limner.embeddings.embedder import Pixels
from limner.embeddings.preprocessing import clip_preprocessing, read_preprocessing
from limner.embeddings.vision import first_line
from limner.errors import EmbedderError

BATCH = 16
TEXT_TOWER = "text_model."
DIFFERENT_PROMPTS = ("a photo of a cat in the garden", "night")
TOLERANCE = 1e-6


class ClipPair:
    """A loaded CLIP; raises EmbedderError if two different prompts have the same embedding."""

    def __init__(
        self,
        name: str,
        identity: str,
        model: Any,
        tokenizer: Any,
        folder: Path,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.identity = name, identity
        default = clip_preprocessing(int(model.config.vision_config.image_size))
        self._preprocessing = read_preprocessing(folder) or default
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._require_different_texts()

    @property
    def size_px(self) -> int:
        """Side to which pictures are resized first."""
        return self._preprocessing.resize_px

    @torch.inference_mode()
    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Projected image embeddings (N, D) of unit norm, fp32 on the CPU."""
        batches = [torch.empty(0, int(self._model.config.projection_dim))]
        for start in range(0, len(images), BATCH):
            pixel_values = self._preprocessing.apply(images[start : start + BATCH]).to(self._device)
            pooled = self._model.vision_model(pixel_values).pooler_output  # (B, hidden)
            batches.append(nn.functional.normalize(self._model.visual_projection(pooled), dim=1).cpu())
        return torch.cat(batches).clone()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Projected text embeddings (N, D) of unit norm, fp32 on the CPU; texts are cut to 77 tokens."""
        if not texts:
            return torch.empty(0, int(self._model.config.projection_dim))
        ids = tokenize(self._tokenizer, texts).ids.to(self._device)  # (N, 77)
        pooled = self._model.text_model(ids).pooler_output  # (N, hidden)
        return nn.functional.normalize(self._model.text_projection(pooled), dim=1).cpu().clone()

    def _require_different_texts(self) -> None:
        first, second = self.embed_texts(DIFFERENT_PROMPTS)
        if not (first - second).abs().max() > TOLERANCE:  # with a wrong eos id the pooled token is always the same
            eos = self._model.config.text_config.eos_token_id
            raise EmbedderError(
                f'"{self.name}" gives different prompts the same embedding; its text tower pools at eos id {eos}, '
                f"its tokenizer ends texts with id {self._tokenizer.eos_token_id}: "
                "correct eos_token_id in its config.json"
            )


def load_clip(name: str, identity: str, folder: Path, device: torch.device | str = "cpu") -> ClipPair:
    """Load a complete CLIP checkpoint in transformers' layout."""
    from transformers import CLIPModel, CLIPTokenizer

    try:
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True, weights_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise EmbedderError(f'"{name}" cannot be loaded from {folder}: {first_line(error)}') from error
    return ClipPair(name, identity, model, tokenizer, folder, device)


def load_base_clip(name: str, identity: str, base: Path, device: torch.device | str = "cpu") -> ClipPair:
    """Combine the base's `clip/` with its `text_encoder/`; EmbedderError unless they make up a CLIP exactly."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = base / "clip"
    try:
        model = CLIPModel(CLIPConfig.from_pretrained(folder, local_files_only=True))
        weights = _joined_weights(folder, base / "text_encoder")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise EmbedderError(f'"{name}" cannot be loaded from {folder}: {first_line(error)}') from error
    if missing or unexpected:
        raise EmbedderError(
            f"{folder} and {base / 'text_encoder'} do not make up one CLIP: {len(missing)} weights are missing and "
            f"{len(unexpected)} find no place (first: {[*missing, *unexpected][0]}); they are of different models"
        )
    return ClipPair(name, identity, model.float(), tokenizer, folder, device)


def _joined_weights(folder: Path, text_encoder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file
    from transformers import CLIPTextModel

    text = CLIPTextModel.from_pretrained(text_encoder, dtype=torch.float32, local_files_only=True)
    # transformers below 5.6 nests the text tower, so that its keys have the prefix already
    tower = {TEXT_TOWER + key.removeprefix(TEXT_TOWER): value for key, value in text.state_dict().items()}
    return {**tower, **load_file(folder / "model.safetensors")}
