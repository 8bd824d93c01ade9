"""Files of weights for tests: their headers are real, their data are holes in the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from limner.base.single_file.names import is_channels_by_channels, original_key
from limner.base.weights.header import ITEM_BYTES
from limner.memory.shapes import _BUILDERS, SD15

Shapes = Mapping[str, tuple[int, ...]]


def write_sparse(path: Path, shapes: Shapes, dtype: str = "F16", metadata: Mapping[str, str] | None = None) -> Path:
    """A .safetensors file of zeros that takes no room on the disk."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    content = json.dumps({"__metadata__": dict(metadata or {}), **entries}).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with path.open("r+b") as file:
        file.truncate(8 + len(content) + end)
    return path


@cache
def sd15_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Key to shape of every weight of SD 1.5, by part, as diffusers and transformers name them."""
    with torch.device("meta"):
        modules = {part: build(SD15[part]) for part, build in _BUILDERS.items()}
    return {part: {key: tuple(t.shape) for key, t in module.state_dict().items()} for part, module in modules.items()}


def single_file_shapes(parts: tuple[str, ...] = ("unet", "vae", "text_encoder")) -> dict[str, tuple[int, ...]]:
    """The same in the original layout."""
    return {
        original_key(part, key): (*shape, 1, 1) if is_channels_by_channels(part, key) else shape
        for part in parts
        for key, shape in sd15_shapes()[part].items()
    }
