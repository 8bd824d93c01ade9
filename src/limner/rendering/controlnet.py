"""A ControlNet from its folder, and whether it fits the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from limner.artifacts import canonical_json, hash_bytes, hash_file
from limner.base import Base
from limner.base.load import plain_base_error
from limner.errors import BaseError

SHARED = ("cross_attention_dim", "in_channels", "block_out_channels", "layers_per_block")
REQUIRED = {"conditioning_channels": 3, "controlnet_conditioning_channel_order": "rgb"}  # of its pictures


def controlnet_hash(folder: Path) -> str:
    """SHA-256 over a ControlNet's configuration and weights. Raises BaseError when the folder holds none."""
    files = sorted([*folder.glob("config.json"), *folder.glob("*.safetensors")])
    if not (folder / "config.json").is_file() or len(files) < 2:
        raise BaseError(
            f"{folder} holds no ControlNet (config.json and .safetensors); control.model needs the diffusers layout"
        )
    return hash_bytes(canonical_json({file.name: hash_file(file) for file in files}))


def load_controlnet(
    folder: Path, base: Base, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Any:
    """The ControlNet in `folder`, frozen. Raises BaseError if it was made for another model."""
    from diffusers import ControlNetModel

    require_fit(folder, base.unet.config)
    with plain_base_error(f"{folder} (the ControlNet)"):
        controlnet: Any = ControlNetModel.from_pretrained(folder, torch_dtype=dtype or base.dtype, use_safetensors=True)
    return controlnet.to(device or base.device).eval().requires_grad_(False)


def require_fit(folder: Path, unet_config: Any) -> None:
    """Raise BaseError when the ControlNet in `folder` was made for another UNet than the one so configured."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseError(f"{folder} holds no ControlNet: its config.json cannot be read ({error})") from None
    wanted = {name: unet_config[name] for name in SHARED if name in unet_config}
    for name, expected in wanted.items():
        actual = config.get(name, expected)
        if _plain(actual) != _plain(expected):
            raise BaseError(
                f"{folder}: this ControlNet has {name} {_plain(actual)} and the base {_plain(expected)}; "
                "it was made for another model"
            )
    for name, expected in REQUIRED.items():
        if config.get(name, expected) != expected:
            raise BaseError(f"{folder}: this ControlNet has {name} {config[name]}; limner provides {expected}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
