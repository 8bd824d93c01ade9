"""Low-rank updates of linear and convolution layers: inject, eject, read out.

Hu et al., "LoRA", 2022, equation 3: h = W x + (alpha / rank) · up(down(x)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.diffusion.randomness import uniform
from limner.errors import AdapterError

ATTENTION_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class LowRankUpdate:
    """One layer's update: `down` (rank, in, …), `up` (out, rank, …) and the alpha that scales it."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Rank of the update."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


class LowRankLayer(nn.Module):
    """A frozen layer with a low-rank update beside it. The update is computed in its own (higher) precision's cast."""

    def __init__(self, original: nn.Linear | nn.Conv2d, down: Tensor, up: Tensor, alpha: float) -> None:
        super().__init__()
        self.original = original
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(up)
        self.alpha = alpha
        self.strength = 1.0

    @property
    def scale(self) -> float:
        """Factor of the update: strength · alpha / rank."""
        return self.strength * self.alpha / self.down.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """The original layer's output plus the scaled update."""
        if isinstance(self.original, nn.Conv2d):
            down = self.down.to(x.dtype)
            hidden = functional.conv2d(
                x, down, None, self.original.stride, self.original.padding, self.original.dilation
            )
            update = functional.conv2d(hidden, self.up.to(x.dtype))
        else:
            update = functional.linear(functional.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return self.original(x) + self.scale * update


def target_layers(module: nn.Module, targets: str) -> list[str]:
    """Names of the layers that `targets` ("attention", "transformer" or "all") stands for, in the module's order."""
    return [name for name, layer in module.named_modules() if _is_target(name, layer, targets)]


def _is_target(name: str, layer: nn.Module, targets: str) -> bool:
    if targets == "attention":
        return isinstance(layer, nn.Linear) and name.endswith(ATTENTION_PROJECTIONS)
    in_transformer = "transformer_blocks" in name or "encoder.layers" in name
    if targets == "transformer":
        return isinstance(layer, nn.Linear) and in_transformer
    return isinstance(layer, nn.Linear | nn.Conv2d) and ("_blocks" in name or "mid_block" in name or in_transformer)


def initial_update(layer: nn.Module, rank: int, alpha: float, seed: int, index: int) -> LowRankUpdate:
    """A fresh update that changes nothing yet: `down` starts as nn.Linear does, `up` is zero (LoRA, section 4.1)."""
    if isinstance(layer, nn.Conv2d):
        down_shape = (rank, layer.in_channels, *layer.kernel_size)
        up_shape = (layer.out_channels, rank, 1, 1)
    elif isinstance(layer, nn.Linear):
        down_shape, up_shape = (rank, layer.in_features), (layer.out_features, rank)
    else:
        raise AdapterError(
            f"a {type(layer).__name__} cannot take a low-rank update; only linear and convolution layers can"
        )
    bound = 1.0 / math.sqrt(math.prod(down_shape[1:]))  # kaiming_uniform with a = sqrt(5)
    down = (uniform(seed, "low-rank down", index, down_shape) * 2 - 1) * bound
    return LowRankUpdate(down, torch.zeros(up_shape), alpha)


def inject(module: nn.Module, updates: Mapping[str, LowRankUpdate], strength: float = 1.0) -> dict[str, LowRankLayer]:
    """Put each update beside the layer of its name.

    Raises AdapterError, before anything is changed, for names or shapes that do not fit.
    """
    layers = dict(module.named_modules())
    faults = [fault for name, update in updates.items() if (fault := _misfit(name, layers.get(name), update))]
    if faults:
        raise AdapterError(f"{len(faults)} of {len(updates)} updates do not fit this base: {'; '.join(faults[:3])}")
    injected = {}
    for name, update in updates.items():
        original = cast("nn.Linear | nn.Conv2d", layers[name])  # `_misfit` has seen to it
        device = original.weight.device
        injected[name] = LowRankLayer(original, update.down.to(device), update.up.to(device), update.alpha)
        injected[name].strength = strength
        _replace(module, name, injected[name])
    return injected


def eject(module: nn.Module) -> dict[str, LowRankUpdate]:
    """Put every original layer back and return the updates, detached; the output is then exactly what it was."""
    updates = {}
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LowRankLayer):
            updates[name] = LowRankUpdate(layer.down.detach(), layer.up.detach(), layer.alpha)
            _replace(module, name, layer.original)
    return updates


def parameters_of(layers: Iterable[LowRankLayer]) -> list[nn.Parameter]:
    """The trainable tensors of injected layers, in order."""
    return [parameter for layer in layers for parameter in (layer.down, layer.up)]


def _misfit(name: str, layer: nn.Module | None, update: LowRankUpdate) -> str:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"{name} is no linear or convolution layer here"
    into, out = layer.weight.shape[1], layer.weight.shape[0]
    if update.down.shape[1] != into or update.up.shape[0] != out:
        return f"{name} maps {into} to {out}, the update {update.down.shape[1]} to {update.up.shape[0]}"
    return ""


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
