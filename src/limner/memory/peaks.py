"""What the corridor's computations need beside weights: counted by running them on shapes alone.

What renders is counted for one row and multiplied, since it grows in proportion.
Shapes: B rows of latents (B, 4, H/8, W/8); a study's pictures are W x H pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from limner.blocks import fused
from limner.memory.shapes import Shapes, build_controlnet
from limner.memory.tracker import peak_bytes
from limner.methods import Footprint

TOKENS = 77
LATENT_CHANNELS = 4
META = torch.device("meta")


@dataclass(frozen=True)
class TrainingStep:
    """What the memory of a training step depends on, beside the base's shapes."""

    footprint: Footprint  # what is trained of each module
    modules: tuple[str, ...]  # those that are trained
    size_px: int
    dtype: torch.dtype
    gradient_checkpointing: bool
    rows: int  # of the denoiser: variants x groups x batch
    prompts: int  # rows of the text encoder, where it is trained: variants x groups
    micro_batches: int = 1


@cache
def training_peak(shapes: Shapes, step: TrainingStep) -> int:
    """Bytes a step holds at its peak beside weights and moments: activations and gradients.

    Gradients of whole weights come up while activations go, and from a second micro-batch on they are there from the
    start. Those that a method keeps in rows count as its state.
    """
    parts = {name: shapes.module(name, step.dtype) for name in dict.fromkeys(("unet", *step.modules))}
    for name in step.modules:
        step.footprint.attach(parts[name])
    if step.gradient_checkpointing:
        _checkpoint(parts)
    side = step.size_px // shapes.vae_factor
    latents = _empty(step.rows, LATENT_CHANNELS, side, side, dtype=step.dtype)
    ids = torch.zeros(step.prompts, TOKENS, dtype=torch.int64, device=META)
    timesteps = torch.zeros(step.rows, dtype=torch.int64, device=META)
    rows = torch.zeros(step.rows, dtype=torch.int64, device=META)

    def taken() -> None:
        for _ in range(min(step.micro_batches, 2)):  # a third is as the second
            trained = "text_encoder" in step.modules
            embeds = (
                parts["text_encoder"](ids).last_hidden_state.index_select(0, rows)
                if trained
                else _empty(step.rows, TOKENS, shapes.text_width, dtype=step.dtype)
            )
            prediction = parts["unet"](latents, timesteps, embeds, return_dict=False)[0]
            torch.autograd.backward((prediction.float() - latents.float()).square().mean())

    with fused(*parts.values(), everywhere=True):  # as on a GPU
        return peak_bytes(taken)


def _checkpoint(parts: dict[str, Any]) -> None:
    parts["unet"].enable_gradient_checkpointing()
    if "text_encoder" in parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            parts["text_encoder"].gradient_checkpointing_enable({"use_reentrant": False})
        parts["text_encoder"].train()


def trained_count(shapes: Shapes, modules: tuple[str, ...], footprint: Footprint) -> int:
    """How many numbers of these modules are trained."""
    return sum(_trained_count(shapes, name, footprint) for name in modules)


@cache
def _trained_count(shapes: Shapes, name: str, footprint: Footprint) -> int:
    return footprint.count(shapes.pristine(name))


@cache
def denoising_peak(shapes: Shapes, size: tuple[int, int], dtype: torch.dtype, controlnet: str = "") -> int:
    """Bytes one row of the UNet's forward pass holds at its peak; a guided picture is two rows.

    `controlnet` is the configuration of one that computes beside it.
    """
    width, height = (side // shapes.vae_factor for side in size)
    unet = shapes.module("unet", dtype)
    control_branch = build_controlnet(controlnet).to(dtype) if controlnet else None
    embeds = _empty(1, TOKENS, shapes.text_width, dtype=dtype)
    timestep = torch.zeros((), dtype=torch.int64, device=META)
    picture = _empty(1, 3, size[1], size[0], dtype=dtype)

    def step() -> None:
        latents = _empty(1, LATENT_CHANNELS, height, width, dtype=dtype)
        residuals = {}
        if control_branch is not None:
            down, middle = control_branch(latents, timestep, embeds, picture, return_dict=False)
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
