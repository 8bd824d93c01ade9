"""What the corridor's computations need beside weights: counted by running them on shapes alone.

Everything grows in proportion to the rows computed at once, so each is counted for one row and multiplied.
Shapes: B rows of latents (B, 4, H/8, W/8); a study's pictures are W x H pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from limner.adapters import LowRankUpdate, target_layers
from limner.adapters.low_rank import inject_stacked
from limner.memory.shapes import Shapes, build_controlnet
from limner.memory.tracker import peak_bytes

TOKENS = 77
LATENT_CHANNELS = 4
META = torch.device("meta")


@cache
def training_peak(
    shapes: Shapes,
    *,
    method: str,
    modules: tuple[str, ...],
    rank: int,
    targets: str,
    size_px: int,
    dtype: torch.dtype,
    gradient_checkpointing: bool,
) -> int:
    """Bytes one row of a training step holds at its peak: activations and what passes through, no weights.

    Gradients of trained weights are counted as they pass: the engine adds them to buffers that are counted as state.
    """
    parts = {name: shapes.module(name, dtype) for name in ("unet", "text_encoder")}
    for name in modules:
        _train(parts[name], method, rank, targets)
    if gradient_checkpointing:
        parts["unet"].enable_gradient_checkpointing()
        parts["text_encoder"].gradient_checkpointing_enable({"use_reentrant": False})
        parts["text_encoder"].train()
    latents = _empty(1, LATENT_CHANNELS, size_px // shapes.vae_factor, size_px // shapes.vae_factor, dtype=dtype)
    ids = torch.zeros(1, TOKENS, dtype=torch.int64, device=META)
    timesteps = torch.zeros(1, dtype=torch.int64, device=META)

    def step() -> None:
        if "text_encoder" in modules:
            embeds = parts["text_encoder"](ids).last_hidden_state
        else:
            embeds = _empty(1, TOKENS, shapes.text_width, dtype=dtype)
        prediction = parts["unet"](latents, timesteps, embeds, return_dict=False)[0]
        torch.autograd.backward((prediction.float() - latents.float()).square().mean())

    return peak_bytes(step)


def _train(module: nn.Module, method: str, rank: int, targets: str) -> None:
    """Thaw a module on "meta", or put low-rank updates beside its layers; gradients vanish where they arrive."""
    if method == "lora":
        layers = dict(module.named_modules())
        updates = {name: _update(layers[name], rank) for name in target_layers(module, targets)}
        parameters = [p for layer in inject_stacked(module, [updates], [1.0]).values() for p in (layer.down, layer.up)]
    else:
        parameters = list(module.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True).register_post_accumulate_grad_hook(_drop)


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def low_rank_count(shapes: Shapes, modules: tuple[str, ...], rank: int, targets: str) -> int:
    """How many numbers the low-rank updates of these modules are."""
    return sum(_low_rank_count(shapes, name, targets) * rank for name in modules)


@cache
def _low_rank_count(shapes: Shapes, name: str, targets: str) -> int:
    module = shapes.module(name, torch.float32)
    layers = dict(module.named_modules())
    updates = [_update(layers[layer], 1) for layer in target_layers(module, targets)]
    return sum(update.down.numel() + update.up.numel() for update in updates)


def _update(layer: Any, rank: int) -> LowRankUpdate:
    inner = layer.weight.shape[1:]  # (in, …)
    outer = (layer.weight.shape[0], rank, *[1] * (layer.weight.ndim - 2))
    dtype = layer.weight.dtype
    return LowRankUpdate(_empty(rank, *inner, dtype=dtype), _empty(*outer, dtype=dtype), float(rank))


@cache
def denoising_peak(shapes: Shapes, size: tuple[int, int], dtype: torch.dtype, controlnet: str = "") -> int:
    """Bytes one row of the UNet's forward pass holds at its peak; a guided picture is two rows.

    `controlnet` is the configuration of one that computes beside it.
    """
    width, height = (side // shapes.vae_factor for side in size)
    unet = shapes.module("unet", dtype)
    beside = build_controlnet(controlnet).to(dtype) if controlnet else None
    embeds = _empty(1, TOKENS, shapes.text_width, dtype=dtype)
    timestep = torch.zeros((), dtype=torch.int64, device=META)
    picture = _empty(1, 3, size[1], size[0], dtype=dtype)

    def step() -> None:
        latents = _empty(1, LATENT_CHANNELS, height, width, dtype=dtype)
        residuals = {}
        if beside is not None:
            down, middle = beside(latents, timestep, embeds, picture, return_dict=False)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        unet(latents, timestep, embeds, **residuals)

    return _inference(step)


@cache
def controlnet_count(config: str) -> int:
    """How many numbers the weights of a ControlNet of this configuration are."""
    return sum(parameter.numel() for parameter in build_controlnet(config).parameters())


@cache
def decoding_peak(shapes: Shapes, size: tuple[int, int], dtype: torch.dtype) -> int:
    """Bytes the VAE's decoder holds for one picture."""
    width, height = (side // shapes.vae_factor for side in size)
    vae = shapes.module("vae", dtype)
    return _inference(lambda: vae.decode(_empty(1, LATENT_CHANNELS, height, width, dtype=dtype)))


@cache
def encoding_peak(shapes: Shapes, size_px: int, dtype: torch.dtype) -> int:
    """Bytes the VAE's encoder holds for one picture."""
    vae = shapes.module("vae", dtype)
    return _inference(lambda: vae.encode(_empty(1, 3, size_px, size_px, dtype=dtype)))


def _inference(computation: Callable[[], Any]) -> int:
    with torch.no_grad():
        return peak_bytes(computation)


def _empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)
