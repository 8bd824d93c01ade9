"""Load a base: the five parts of Stable Diffusion through diffusers and transformers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limner.base.find import BaseLocation
from limner.base.single_file.building import build_module, build_tokenizer
from limner.base.single_file.configuration import sd15
from limner.base.single_file.names import WEIGHT_PARTS
from limner.base.single_file.opening import open_base
from limner.base.single_file.parts import parts_of_vae
from limner.errors import BaseError

SD15_LATENT_CHANNELS = 4
CPU = torch.device("cpu")
SUPPORTED_PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass
class Base:
    """A loaded base. The modules are frozen and in evaluation mode; training unfreezes what it trains.

    `device` is where work happens. Parts that are not in use may stay on the CPU: `placed` moves them there for a
    block.
    """

    location: BaseLocation
    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    noise_schedule: dict[str, Any]  # the scheduler's configuration: betas, prediction type, steps offset
    clip_skip: int = 0
    safety_checker: Any = None
    feature_extractor: Any = None
    device: torch.device = CPU

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the UNet's weights."""
        return next(self.unet.parameters()).dtype

    @property
    def vae_factor(self) -> int:
        """Pixels a latent (8 for Stable Diffusion)."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def native_size_px(self) -> int:
        """Side of the pictures that the UNet was trained for."""
        return int(self.unet.config.sample_size) * self.vae_factor

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: "epsilon" or "v_prediction"."""
        return self.noise_schedule.get("prediction_type", "epsilon")

    def modules(self) -> dict[str, nn.Module]:
        """The modules that adapters may change, by the names their keys start with."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def parts(self) -> list[nn.Module]:
        """Every module that has weights."""
        every = (self.unet, self.text_encoder, self.vae, self.safety_checker)
        return [module for module in every if module is not None]


def load_base(
    location: BaseLocation,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    vae: Path | None = None,
    clip_skip: int = 0,
    safety_checker: bool = False,
    waiting: bool = False,
) -> Base:
    """Load a base for work on `device` in `dtype`, frozen; `dtype` None keeps each part's stored precision.

    `vae` is the file or folder of another VAE in place of the base's own (`base.find.find_vae`).
    `waiting` leaves all parts on the CPU until `placed` (or another caller) moves them to the device.
    Raises BaseError for another family than Stable Diffusion 1.5.
    """
    quiet_libraries()
    base = _from_file(location, dtype) if location.kind == "file" else _from_folder(location, dtype)
    if vae is not None:
        base.vae = _load_vae(vae, dtype)
    if safety_checker:
        base.safety_checker, base.feature_extractor = _load_safety_checker(location, dtype)
    base.clip_skip, base.device = clip_skip, torch.device(device)
    _require_sd15(base)
    for module in base.parts():
        module.eval().requires_grad_(False).to("cpu" if waiting else device)
    return base


def quiet_libraries() -> None:
    """Keep the libraries' progress bars and hints out of the terminal; limner reports what users need to know."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _from_folder(location: BaseLocation, dtype: torch.dtype | None) -> Base:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    path = location.path
    with plain_base_error(str(path)):
        return Base(
            location,
            tokenizer=CLIPTokenizer.from_pretrained(path / "tokenizer"),
            text_encoder=CLIPTextModel.from_pretrained(path / "text_encoder", dtype=dtype),  # None keeps the file's
            vae=AutoencoderKL.from_pretrained(path / "vae", torch_dtype=dtype or _stored_dtype(path / "vae")),
            unet=UNet2DConditionModel.from_pretrained(path / "unet", torch_dtype=dtype or _stored_dtype(path / "unet")),
            noise_schedule=_scheduler_config(path),
        )


def _stored_dtype(part: Path) -> torch.dtype:
    """Precision of the weights in a part's folder, which diffusers would convert to fp32."""
    from safetensors import safe_open

    for file in sorted(part.glob("*.safetensors")):
        if ".fp16." not in file.name:  # a second copy, which is not loaded
            with safe_open(file, "pt") as weights:
                return weights.get_tensor(next(iter(weights.keys()))).dtype
    return torch.float32


def _from_file(location: BaseLocation, dtype: torch.dtype | None) -> Base:
    with plain_base_error(str(location.path)), contextlib.ExitStack() as opened:
        stored = open_base(location.path, opened)
        modules = {
            part: build_module(part, stored.configuration, stored.parts.tensors[part], dtype) for part in WEIGHT_PARTS
        }
        schedule = stored.configuration.scheduler
        return Base(location, build_tokenizer(stored.configuration), **modules, noise_schedule=schedule)


def _scheduler_config(path: Path) -> dict[str, Any]:
    return json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))


def _load_vae(path: Path, dtype: torch.dtype | None) -> Any:
    from diffusers import AutoencoderKL

    with plain_base_error(str(path)), contextlib.ExitStack() as opened:
        if path.is_file():
            return build_module("vae", sd15(), parts_of_vae(path, opened), dtype)
        return AutoencoderKL.from_pretrained(path, torch_dtype=dtype or _stored_dtype(path))


def _load_safety_checker(location: BaseLocation, dtype: torch.dtype | None) -> tuple[Any, Any]:
    if not location.has_safety_checker:
        return None, None
    path = location.path
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessorPil

    checker = StableDiffusionSafetyChecker.from_pretrained(path / "safety_checker", dtype=dtype)
    return checker, CLIPImageProcessorPil.from_pretrained(path / "feature_extractor")


def _require_sd15(base: Base) -> None:
    channels = base.unet.config.in_channels
    if channels != SD15_LATENT_CHANNELS:
        raise BaseError(
            f"{base.location.path}: its UNet takes {channels} channels, SD 1.5's takes 4; "
            "an inpainting model cannot be trained here"
        )
    if base.unet.config.cross_attention_dim != base.text_encoder.config.hidden_size:
        raise BaseError(
            f"{base.location.path}: the UNet expects embeddings of {base.unet.config.cross_attention_dim}, "
            f"its text encoder gives {base.text_encoder.config.hidden_size}; the parts are of different models"
        )
    if base.prediction_type not in SUPPORTED_PREDICTION_TYPES:
        raise BaseError(
            f"{base.location.path}: prediction type {base.prediction_type!r} is not supported (epsilon, v_prediction)"
        )


@contextlib.contextmanager
def plain_base_error(what: str) -> Iterator[None]:
    """Turn a library's error while reading a model into one line."""
    try:
        yield
    except BaseError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseError(f"{what} cannot be loaded as Stable Diffusion 1.5: {reason}") from error
