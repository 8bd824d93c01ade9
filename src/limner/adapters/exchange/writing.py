"""Write low-rank updates as other programs read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from limner.adapters.exchange.names import kohya_name
from limner.adapters.formats import DOWN, METADATA_KEY, UP, LowRank, lora_metadata
from limner.adapters.low_rank import LowRankUpdate
from limner.artifacts import write_whole
from limner.base.single_file.names import TEXT_MODEL
from limner.base.weights.streaming import NewTensor, from_tensor, write_tensors


def save_kohya(path: Path, low_rank: LowRank, metadata: Mapping[str, str], dtype: torch.dtype | None = None) -> None:
    """Write kohya's keys, each layer with its alpha: what A1111, ComfyUI and Forge read. `dtype` None keeps it."""
    tensors = {}
    for module, updates in low_rank.items():
        for layer, update in updates.items():
            name = kohya_name(module, layer)
            tensors[f"{name}.lora_down.weight"] = _new(update.down, dtype)
            tensors[f"{name}.lora_up.weight"] = _new(update.up, dtype)
            tensors[f"{name}.alpha"] = _new(torch.tensor(update.alpha), dtype)
    write_tensors(path, tensors, metadata)


def save_diffusers(
    path: Path, low_rank: LowRank, metadata: Mapping[str, str], dtype: torch.dtype | None = None
) -> None:
    """Write what diffusers' `load_lora_weights` reads, alpha in the header.

    The text encoder's keys have "text_model.", which every version of transformers and ComfyUI understand.
    """
    tensors = {key: _new(tensor, dtype) for key, tensor in _dotted(low_rank, lambda update: update.up).items()}
    alphas = {METADATA_KEY: json.dumps(lora_metadata(low_rank), sort_keys=True)}
    write_tensors(path, tensors, dict(metadata) | alphas)


def save_bin(path: Path, low_rank: LowRank, dtype: torch.dtype | None = None) -> None:
    """Write the pickled form (`pytorch_lora_weights.bin`) that old programs want.

    It has no room for alpha, which is then taken to be the rank: `up` is scaled so that this is true.
    """
    import io

    tensors = _dotted(low_rank, lambda update: update.up * update.scale)
    written = io.BytesIO()
    torch.save({key: tensor.to("cpu", dtype).contiguous() for key, tensor in tensors.items()}, written)
    write_whole(path, written.getvalue())


def _dotted(low_rank: LowRank, up: Callable[[LowRankUpdate], Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for module, updates in low_rank.items():
        for layer, update in updates.items():
            prefix = TEXT_MODEL if module == "text_encoder" and not layer.startswith(TEXT_MODEL) else ""
            tensors[f"{module}.{prefix}{layer}.{DOWN}"] = update.down.detach()
            tensors[f"{module}.{prefix}{layer}.{UP}"] = up(update).detach()
    return tensors


def _new(tensor: Tensor, dtype: torch.dtype | None) -> NewTensor:
    return from_tensor(dtype or tensor.dtype, tuple(tensor.shape), partial(Tensor.detach, tensor))
