"""Low-rank updates in the file that diffusers loads: the PEFT layout, with the metadata that alpha needs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from limner.adapters.low_rank import LowRankUpdate
from limner.base.weights.streaming import from_tensor, write_tensors
from limner.errors import AdapterError

MODULES = ("unet", "text_encoder")
LORA_FILE = "pytorch_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"  # diffusers reads rank and alpha from it
DOWN, UP = "lora_A.weight", "lora_B.weight"
LowRank = Mapping[str, Mapping[str, LowRankUpdate]]


def save_low_rank(path: Path, low_rank: LowRank, dtype: torch.dtype | None = None) -> None:
    """Write low-rank updates as diffusers' `load_lora_weights` reads them, alpha included."""
    tensors = {}
    for module, updates in low_rank.items():
        for name, update in updates.items():
            for part, tensor in ((DOWN, update.down), (UP, update.up)):
                tensor_source = partial(Tensor.detach, tensor)
                tensors[f"{module}.{name}.{part}"] = from_tensor(
                    dtype or tensor.dtype, tuple(tensor.shape), tensor_source
                )
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(lora_metadata(low_rank), sort_keys=True)})


def lora_metadata(low_rank: LowRank) -> dict[str, Any]:
    """What PEFT's LoraConfig needs to know, prefixed by module: the most common rank and alpha, and the exceptions."""
    metadata: dict[str, Any] = {}
    for module, updates in low_rank.items():
        rank = Counter(update.rank for update in updates.values()).most_common(1)[0][0]
        alpha = Counter(update.alpha for update in updates.values()).most_common(1)[0][0]
        metadata |= {
            f"{module}.r": rank,
            f"{module}.lora_alpha": alpha,
            f"{module}.rank_pattern": {name: u.rank for name, u in updates.items() if u.rank != rank},
            f"{module}.alpha_pattern": {name: u.alpha for name, u in updates.items() if u.alpha != alpha},
            f"{module}.target_modules": sorted(updates),
            f"{module}.lora_dropout": 0.0,
            f"{module}.bias": "none",
        }
    return metadata


def load_low_rank(path: Path) -> dict[str, dict[str, LowRankUpdate]]:
    """Read `pytorch_lora_weights.safetensors` in the PEFT layout with its metadata: {module: {layer: update}}."""
    tensors = load_tensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    not_understood = [key for key in tensors if not (key.startswith(MODULES) and key.endswith((DOWN, UP)))]
    if not_understood:
        raise AdapterError(f"{path}: {len(not_understood)} keys are not understood, first {not_understood[0]}")
    low_rank: dict[str, dict[str, LowRankUpdate]] = {}
    for key in sorted(key for key in tensors if key.endswith(DOWN)):
        module, _, name = key.removesuffix("." + DOWN).partition(".")
        up = tensors.get(f"{module}.{name}.{UP}")
        if up is None:
            raise AdapterError(f"{path}: {module}.{name} has no {UP}; the file is incomplete")
        down = tensors[key]
        alpha = metadata.get(f"{module}.alpha_pattern", {}).get(
            name, metadata.get(f"{module}.lora_alpha", down.shape[0])
        )
        low_rank.setdefault(module, {})[name] = LowRankUpdate(down, up, float(alpha))
    return low_rank


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises AdapterError for a damaged one."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"{path} cannot be read as safetensors ({error}); the file is damaged, make it again"
        ) from None
