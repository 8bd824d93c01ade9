"""A base's weights written as one file of the original layout, or as a diffusers folder; tensor by tensor."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from limner.base.single_file.configuration import Configuration
from limner.base.single_file.names import TEXT_MODEL, WEIGHT_PARTS, is_channels_by_channels, original_key
from limner.base.weights.streaming import HASH_KEY, NO_HASH, NewTensor, write_tensors

TEXT_KEYS = "limner.text_encoder_keys"  # how a folder named its text encoder's weights, to restore it exactly
WEIGHT_FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
MODELSPEC = {
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "stable-diffusion-v1",
    "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
    HASH_KEY: NO_HASH,
}


class Writable(Protocol):
    """A weight of diffusers' shape that can be written in some precision: a stored one, or one computed from others."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As diffusers has it."""
        ...

    def tensor(self) -> Tensor:
        """Its values, in memory."""
        ...

    def written(self, shape: tuple[int, ...], dtype: torch.dtype | None) -> NewTensor:
        """A tensor to be written in that shape and precision (None keeps its precision)."""
        ...


Weights = Mapping[str, Mapping[str, Writable]]


def write_single_file(
    path: Path,
    weights: Weights,
    configuration: Configuration,
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
    text_prefix: str = TEXT_MODEL,
) -> None:
    """Write one file of the original layout, whole or not at all, with ModelSpec's metadata.

    `metadata` overrides the metadata that the format requires. Every key of the text encoder starts with "text_model.",
    even where the installed library drops it: no other program reads the file without.
    """
    tensors = {}
    for part in WEIGHT_PARTS:
        for key, weight in weights[part].items():
            shape = (*weight.shape, 1, 1) if is_channels_by_channels(part, key) else weight.shape
            tensors[original_key(part, key)] = weight.written(shape, dtype)
    size_px = configuration.unet["sample_size"] * 2 ** (len(configuration.vae["block_out_channels"]) - 1)
    model_spec = {
        "modelspec.title": path.stem,
        "modelspec.resolution": f"{size_px}x{size_px}",
        "modelspec.prediction_type": "v" if configuration.prediction_type == "v_prediction" else "epsilon",
        TEXT_KEYS: text_prefix,
    }
    write_tensors(path, tensors, MODELSPEC | model_spec | dict(metadata) | configuration.metadata())


def fill_folder(
    folder: Path,
    weights: Weights,
    configuration: Configuration,
    dtype: torch.dtype | None = None,
    text_prefix: str = TEXT_MODEL,
    others: Mapping[str, Path] | None = None,
) -> None:
    """Write a diffusers folder's files into `folder`, a temporary one. `others` are copied too, by their path in it."""
    configuration.write(folder)
    for part in WEIGHT_PARTS:
        prefix = text_prefix if part == "text_encoder" else ""
        tensors = {prefix + key: weight.written(weight.shape, dtype) for key, weight in weights[part].items()}
        write_tensors(folder / part / WEIGHT_FILES[part], tensors, {})
    for name, source in (others or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
