"""The weights of a base on the disk, by part and diffusers' key, in either layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from limner.base.inspect.folders import weight_files
from limner.base.single_file.names import (
    TEXT_MODEL,
    UNET_PREFIX,
    VAE_PREFIX,
    WEIGHT_PARTS,
    averaged_key,
    canonical_key,
    diffusers_key,
    expected_keys,
    is_channels_by_channels,
    is_left_out,
)
from limner.base.weights.streaming import DTYPES, NewTensor, TensorFile, from_tensor
from limner.errors import BaseError, WeightsError


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, and the shape that diffusers gives it."""

    file: TensorFile
    name: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """As the file has it."""
        return self.file.header.tensors[self.name].dtype

    def tensor(self) -> Tensor:
        """Read it, in diffusers' shape."""
        return self.file.tensor(self.name).reshape(self.shape)

    def written(self, shape: tuple[int, ...], dtype: torch.dtype | None) -> NewTensor:
        """A tensor to be written; its bytes are copied where the precision stays the same."""
        stored_dtype = DTYPES.get(self.dtype)
        if dtype is None or dtype == stored_dtype or stored_dtype is None or not stored_dtype.is_floating_point:
            return NewTensor(self.dtype, shape, partial(self.file.pieces, self.name))
        return from_tensor(dtype, shape, lambda: cast(self.tensor(), dtype, self.name))


@dataclass
class ModelParts:
    """Part to key to tensor; `text_prefix` is the prefix of the text encoder's keys in a folder."""

    tensors: dict[str, dict[str, StoredTensor]]
    text_prefix: str = TEXT_MODEL
    left_out: list[str] = field(default_factory=list)

    def require_complete(self, where: Path) -> None:
        """Raise BaseError unless every weight of SD 1.5 is present."""
        for part in WEIGHT_PARTS:
            tensors = self.tensors.get(part, {})
            if not tensors:
                hint = "; give one with --vae" if part == "vae" else "; it is not a complete base"
                raise BaseError(f"{where} has no {part.replace('_', ' ')} in it{hint}")
            missing = sorted(expected_keys(part, text_layers(tensors)) - tensors.keys())
            if missing:
                raise BaseError(f"{where}: {len(missing)} weights of the {part} are missing, first {missing[0]}")


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """A tensor in another precision. Raises WeightsError if a number is too large for it."""
    converted = tensor.to(dtype)
    if dtype == torch.float16 and converted.isinf().any() and not tensor.isinf().any():
        raise WeightsError(f"{name} has numbers above 65,504, which fp16 cannot hold; use --precision bf16 or fp32")
    return converted


def text_layers(keys: Iterable[str]) -> int:
    """How many layers a text encoder's keys name."""
    return 1 + max((int(key.split(".")[2]) for key in keys if key.startswith("encoder.layers.")), default=-1)


def parts_of_file(file: TensorFile, *, ema: bool = False) -> ModelParts:
    """A single file of the original layout; with `ema` the UNet's moving averages instead of its weights.

    Raises BaseError for weights that SD 1.5 does not have and for missing averages.
    """
    parts = ModelParts({part: {} for part in WEIGHT_PARTS})
    unexpected = []
    for name in file.header.tensors:
        if is_left_out(name):
            parts.left_out.append(name)
        elif (target := diffusers_key(name)) is None:
            unexpected.append(name)
        else:
            _keep(parts, *target, file, averaged_key(name) if ema and name.startswith(UNET_PREFIX) else name)
    path = file.header.path
    if unexpected:
        raise BaseError(f"{path}: {len(unexpected)} weights have no place in SD 1.5, first {unexpected[0][:100]}")
    return parts


def parts_of_folder(folder: Path, opened: contextlib.ExitStack) -> ModelParts:
    """A diffusers folder, shards and old names included. Raises BaseError for parts without .safetensors files."""
    parts = ModelParts({part: {} for part in WEIGHT_PARTS})
    for part in WEIGHT_PARTS:
        for path in weight_files(folder / part):
            if path.suffix != ".safetensors":
                raise BaseError(f"{path} is a pickle; limner convert reads it with --allow-pickle")
            file = opened.enter_context(TensorFile(path))
            for name in file.header.tensors:
                if not name.endswith("position_ids"):
                    _keep(parts, part, canonical_key(part, name), file, name)
            if part == "text_encoder" and not any(name.startswith(TEXT_MODEL) for name in file.header.tensors):
                parts.text_prefix = ""
    return parts


def parts_of_vae(path: Path, opened: contextlib.ExitStack) -> dict[str, StoredTensor]:
    """A separate VAE: a diffusers folder, a file with diffusers' keys, or with the original's, prefixed or not."""
    parts = ModelParts({"vae": {}})
    for each in weight_files(path) if path.is_dir() else [path]:
        file = opened.enter_context(TensorFile(each))
        names = [name for name in file.header.tensors if name.startswith(VAE_PREFIX)] or list(file.header.tensors)
        for name in names:
            if is_left_out(VAE_PREFIX + name.removeprefix(VAE_PREFIX)):
                continue
            target = diffusers_key(VAE_PREFIX + name.removeprefix(VAE_PREFIX))
            _keep(parts, "vae", target[1] if target else canonical_key("vae", name), file, name)
    tensors = parts.tensors["vae"]
    if missing := sorted(expected_keys("vae") - tensors.keys()):
        raise BaseError(
            f"{path} is not a complete VAE of SD 1.5: {len(missing)} weights are missing, first {missing[0]}"
        )
    return tensors


def _keep(parts: ModelParts, part: str, key: str, file: TensorFile, name: str) -> None:
    entry = file.header.tensors.get(name)
    if entry is None:
        raise BaseError(f"{file.header.path} has no moving average of {part}.{key} ({name}); omit --ema")
    if key in parts.tensors[part]:
        raise BaseError(f"{file.header.path}: {part}.{key} occurs twice; the file is damaged")
    squeezed = is_channels_by_channels(part, key) and entry.shape[2:] == (1, 1)
    parts.tensors[part][key] = StoredTensor(file, name, entry.shape[:2] if squeezed else entry.shape)
