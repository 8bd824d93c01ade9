"""A base's modules without weights: built on torch's "meta" device from its configuration files alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limner.base import BaseLocation, quiet_libraries
from limner.base.single_file.configuration import SD15
from limner.errors import BaseError


@dataclass(frozen=True)
class Shapes:
    """The configurations of a base's parts, as JSON texts (so that two equal ones count as one)."""

    unet: str
    text_encoder: str
    vae: str

    def module(self, part: str, dtype: torch.dtype) -> Any:
        """A fresh module of that part, frozen, on "meta"."""
        module = _BUILDERS[part](json.loads(getattr(self, part)))
        return module.to(dtype).eval().requires_grad_(False)

    def pristine(self, part: str) -> nn.Module:
        """That module in fp32, frozen, built once: to be looked at, not changed."""
        return _pristine(part, getattr(self, part))

    def count(self, part: str) -> int:
        """How many numbers the weights of a part are."""
        return _count(part, getattr(self, part))

    @property
    def vae_factor(self) -> int:
        """Pixels a latent."""
        return 2 ** (len(json.loads(self.vae)["block_out_channels"]) - 1)

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height of the pictures that the UNet was made for."""
        side = int(json.loads(self.unet)["sample_size"]) * self.vae_factor
        return side, side

    @property
    def text_width(self) -> int:
        """Width of the prompt embeddings."""
        return int(json.loads(self.text_encoder)["hidden_size"])


def read_shapes(base: BaseLocation, vae: Path | None = None) -> Shapes:
    """What the base's configuration files say, or a single file's header. Raises BaseError for damaged ones.

    `vae` is the study's other VAE: a folder's configuration is read, a single file is of SD 1.5's shape.
    """
    read = {part: getattr(base.configuration, part) for part in SD15}
    if vae is not None:
        read["vae"] = _read(vae) if vae.is_dir() else SD15["vae"]
    return Shapes(**{part: json.dumps(config, sort_keys=True) for part, config in read.items()})


def _read(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseError(f"{file} cannot be read ({error}); the base needs it") from None


def _unet(config: dict[str, Any]) -> nn.Module:
    from diffusers import UNet2DConditionModel

    return _without_weights(lambda: UNet2DConditionModel.from_config(config))


def _vae(config: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    return _without_weights(lambda: AutoencoderKL.from_config(config))


def build_controlnet(config: str) -> Any:
    """A ControlNet of this configuration (JSON) on "meta"."""
    from diffusers import ControlNetModel

    return _without_weights(lambda: ControlNetModel.from_config(json.loads(config)))


def _text_encoder(config: dict[str, Any]) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return _without_weights(lambda: CLIPTextModel(CLIPTextConfig.from_dict(config)))


_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {"unet": _unet, "vae": _vae, "text_encoder": _text_encoder}


def _without_weights(make: Callable[[], Any]) -> Any:
    quiet_libraries()
    with torch.device("meta"):
        return make()


@cache
def _pristine(part: str, config: str) -> nn.Module:
    return _BUILDERS[part](json.loads(config)).to(torch.float32).eval().requires_grad_(False)


@cache
def _count(part: str, config: str) -> int:
    return sum(parameter.numel() for parameter in _BUILDERS[part](json.loads(config)).parameters())
