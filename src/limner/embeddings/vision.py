"""Vision transformers as image embedders: DINO, DINOv2 and related models, through transformers.

The embedding is the last layer's class token after the final norm, as DreamBooth's DINO score takes it
(Ruiz et al. 2023, section 4.2; Caron et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.embeddings.embedder import Pixels
from limner.embeddings.preprocessing import PREPROCESSOR, Preprocessing, read_preprocessing
from limner.errors import EmbedderError

CLASS_TOKEN_MODELS = ("vit", "deit", "dinov2", "dinov2_with_registers")
BATCH = 16


class VisionTransformer:
    """A checkpoint folder in transformers' layout whose first token represents the picture."""

    def __init__(self, name: str, identity: str, folder: Path, device: torch.device | str = "cpu") -> None:
        self.name, self.identity = name, identity
        preprocessing = read_preprocessing(folder)
        if preprocessing is None:
            raise EmbedderError(
                f'"{name}": {folder} has no {PREPROCESSOR}, so how its pictures are prepared is unknown; '
                "download the complete model again"
            )
        self._preprocessing: Preprocessing = preprocessing
        self._device = torch.device(device)
        self._model = _load(name, folder).to(self._device)

    @property
    def size_px(self) -> int:
        """Side to which pictures are resized first."""
        return self._preprocessing.resize_px

    @torch.inference_mode()
    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Embeddings (N, D) of unit norm, fp32 on the CPU."""
        batches = [torch.empty(0, int(self._model.config.hidden_size))]
        for start in range(0, len(images), BATCH):
            pixel_values = self._preprocessing.apply(images[start : start + BATCH]).to(self._device)
            tokens = self._model(pixel_values).last_hidden_state  # (B, 1 + patches, D)
            batches.append(nn.functional.normalize(tokens[:, 0], dim=1).cpu())
        return torch.cat(batches).clone()


def _load(name: str, folder: Path) -> Any:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in CLASS_TOKEN_MODELS:
        raise EmbedderError(
            f'"{name}" is a model of type "{config.model_type}", which is not known to measure likeness; '
            f"there are {', '.join(CLASS_TOKEN_MODELS)} and clip"
        )
    options = {"add_pooling_layer": False} if config.model_type in ("vit", "deit") else {}
    try:
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, weights_only=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise EmbedderError(f'"{name}" cannot be loaded from {folder}: {first_line(error)}') from error
    return model.eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """A library's error message, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
