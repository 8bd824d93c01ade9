"""The weights of a base as they lie on the disk, by part and diffusers' key, whichever layout holds them."""

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
    averaged_key,
    canonical_key,
    expected_keys,
    is_channels_by_channels,
    is_left_out,
    place_of,
)
from limner.base.weights.streaming import DTYPES, NewTensor, TensorFile, from_tensor
from limner.errors import BaseError, WeightsError

WEIGHED_PARTS = ("unet", "vae", "text_encoder")


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
        """It as a tensor to be written; its bytes as they are where precision stays."""
        own = DTYPES.get(self.dtype)
        if dtype is None or dtype == own or own is None or not own.is_floating_point:
            return NewTensor(self.dtype, shape, partial(self.file.pieces, self.name))
        return from_tensor(dtype, shape, lambda: cast(self.tensor(), dtype, self.name))


@dataclass
class Parts:
    """Part to key to tensor; `text_prefix` is what stood before a folder's text encoder's keys."""

    tensors: dict[str, dict[str, StoredTensor]]
    text_prefix: str = TEXT_MODEL
    left_out: list[str] = field(default_factory=list)

    def require_complete(self, where: Path) -> None:
        """Raise BaseError unless every weight that SD 1.5 has is there."""
        for part in WEIGHED_PARTS:
            own = self.tensors.get(part, {})
            if not own:
                hint = "; give one with --vae" if part == "vae" else "; it is no whole base"
                raise BaseError(f"{where} has no {part.replace('_', ' ')} in it{hint}")
            missing = sorted(expected_keys(part, text_layers(own)) - own.keys())
            if missing:
                raise BaseError(f"{where}: {len(missing)} weights of the {part} are missing, first {missing[0]}")


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """A tensor in another precision. Raises WeightsError where a number is too large for it."""
    made = tensor.to(dtype)
    if dtype == torch.float16 and made.isinf().any() and not tensor.isinf().any():
        raise WeightsError(f"{name} has numbers above 65,504, which fp16 cannot hold; use --precision bf16 or fp32")
    return made


def text_layers(keys: Iterable[str]) -> int:
    """How many layers a text encoder's keys name."""
    return 1 + max((int(key.split(".")[2]) for key in keys if key.startswith("encoder.layers.")), default=-1)


def parts_of_file(file: TensorFile, *, ema: bool = False) -> Parts:
    """A single file of the original layout; with `ema` the UNet's moving averages in its weights' place.

    Raises BaseError for weights that have no place in SD 1.5 and for averages that are not there.
    """
    parts = Parts({part: {} for part in WEIGHED_PARTS})
    strange = []
    for name in file.header.tensors:
        if is_left_out(name):
            parts.left_out.append(name)
        elif (place := place_of(name)) is None:
            strange.append(name)
        else:
            _keep(parts, *place, file, averaged_key(name) if ema and name.startswith(UNET_PREFIX) else name)
    path = file.header.path
    if strange:
        raise BaseError(f"{path}: {len(strange)} weights have no place in SD 1.5, first {strange[0][:100]}")
    return parts


def parts_of_folder(folder: Path, opened: contextlib.ExitStack) -> Parts:
    """A diffusers folder, shards and old names included. Raises BaseError for parts without .safetensors files."""
    parts = Parts({part: {} for part in WEIGHED_PARTS})
    for part in WEIGHED_PARTS:
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
    """A VAE apart: a diffusers folder, a file of diffusers' keys, or of the original's with or without prefix."""
    parts = Parts({"vae": {}})
    for each in weight_files(path) if path.is_dir() else [path]:
        file = opened.enter_context(TensorFile(each))
        names = [name for name in file.header.tensors if name.startswith(VAE_PREFIX)] or list(file.header.tensors)
        for name in names:
            if is_left_out(VAE_PREFIX + name.removeprefix(VAE_PREFIX)):
                continue
            place = place_of(VAE_PREFIX + name.removeprefix(VAE_PREFIX))
            _keep(parts, "vae", place[1] if place else canonical_key("vae", name), file, name)
    own = parts.tensors["vae"]
    if missing := sorted(expected_keys("vae") - own.keys()):
        raise BaseError(f"{path} is no whole VAE of SD 1.5: {len(missing)} weights are missing, first {missing[0]}")
    return own


def _keep(parts: Parts, part: str, key: str, file: TensorFile, name: str) -> None:
    entry = file.header.tensors.get(name)
    if entry is None:
        raise BaseError(f"{file.header.path} has no moving average of {part}.{key} ({name}); leave --ema out")
    if key in parts.tensors[part]:
        raise BaseError(f"{file.header.path}: {part}.{key} is there twice; the file is damaged")
    squeezed = is_channels_by_channels(part, key) and entry.shape[2:] == (1, 1)
    parts.tensors[part][key] = StoredTensor(file, name, entry.shape[:2] if squeezed else entry.shape)
