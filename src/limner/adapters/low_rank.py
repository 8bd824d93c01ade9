"""Low-rank updates of linear and convolution layers: inject, eject, read out.

Hu et al., "LoRA", 2022, equation 3: h = W x + (alpha / rank) · up(down(x)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.adapters.stacked import StackedLayer, replace_layer
from limner.diffusion.randomness import uniform
from limner.errors import AdapterError
from limner.kernels.linear import joint_bias, joint_view
from limner.kernels.low_rank import low_rank_linear

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


class LowRankLayer(StackedLayer):
    """A frozen layer with V low-rank updates beside it, for V variants that are computed together.

    Its input's rows are V equal groups, variant after variant. `down` is (V, R, in, …) and `up` (V, out, R, …), with
    zeros where a variant's rank is below R, a multiple of `multiple`. The update is computed in the frozen layer's
    precision.
    """

    def __init__(
        self,
        original: nn.Linear | nn.Conv2d,
        updates: Sequence[LowRankUpdate],
        strengths: Sequence[float],
        multiple: int = 1,
    ):
        super().__init__(
            original, [strength * update.scale for update, strength in zip(updates, strengths, strict=True)]
        )
        self.original: nn.Linear | nn.Conv2d = original
        self.ranks = [update.rank for update in updates]
        self.alphas = [update.alpha for update in updates]
        rank, device = -(-max(self.ranks) // multiple) * multiple, original.weight.device
        self.down = nn.Parameter(torch.stack([_padded(update.down, 0, rank) for update in updates]).to(device))
        self.up = nn.Parameter(torch.stack([_padded(update.up, 1, rank) for update in updates]).to(device))
        self.gradients: tuple[Tensor, Tensor] | None = None  # where a trainer collects them, shaped as down and up

    def forward(self, x: Tensor) -> Tensor:
        """The original layer's output plus each variant's scaled update of its own rows."""
        down, up, scales = self.down[self.acting], self.up[self.acting], self.scales[self.acting]
        if isinstance(self.original, nn.Linear):
            linear = self.original
            gradients = (self.gradients[0], self.gradients[1][:, None]) if self.gradients else None
            return low_rank_linear(x, linear.weight, linear.bias, down, up[:, None], scales, gradients)
        parts = x.chunk(len(scales))
        updates = [self._convolved(*each) for each in zip(parts, down, up, scales, strict=True)]
        return self.original(x) + torch.cat(updates)

    @staticmethod
    def jointly(layers: Sequence[LowRankLayer], x: Tensor) -> Tensor | None:
        """Outputs (…, J·D) of linear layers in training that read the same `x`; None where they do not lie together.

        Together lie frozen weights below one another, and the updates of every variant one layer after the other.
        """
        first = layers[0]
        weight = joint_view([layer.original.weight for layer in layers])
        down, up = (_one_after_another([getattr(layer, part) for layer in layers]) for part in ("down", "up"))
        known = all(layer.gradients is not None and layer.chosen is None for layer in layers)
        biases = [layer.original.bias for layer in layers if layer.original.bias is not None]
        same_scales = all(layer.scales == first.scales for layer in layers) and len(biases) in (0, len(layers))
        if weight is None or down is None or up is None or not (known and same_scales):
            return None
        variants, count, rank, width = down.shape
        if down.stride(1) != rank * down.stride(2):
            return None  # padding lies between them
        buffers = [
            _one_after_another([layer.gradients[part] for layer in layers if layer.gradients]) for part in (0, 1)
        ]
        if buffers[0] is None or buffers[1] is None:
            return None
        joint = down.as_strided((variants, count * rank, width), (down.stride(0), *down.stride()[2:]))
        d_joint = buffers[0].as_strided(joint.shape, joint.stride())
        learning = [parameter for layer in layers for parameter in (layer.down, layer.up)]
        return low_rank_linear(x, weight, joint_bias(biases), joint, up, first.scales, (d_joint, buffers[1]), learning)

    def update(self, index: int = 0) -> LowRankUpdate:
        """Variant `index`'s update without padding, detached."""
        rank = self.ranks[index]
        down, up = self.down.detach()[index, :rank], self.up.detach()[index, :, :rank]
        return LowRankUpdate(down, up, self.alphas[index])

    def _convolved(self, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        conv = self.original
        hidden = functional.conv2d(x, down.to(x.dtype), None, conv.stride, conv.padding, conv.dilation)  # type: ignore
        return scale * functional.conv2d(hidden, up.to(x.dtype))


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
    return inject_stacked(module, [updates], [strength])


def inject_stacked(
    module: nn.Module,
    variants: Sequence[Mapping[str, LowRankUpdate]],
    strengths: Sequence[float],
    *,
    multiple: int = 1,
) -> dict[str, LowRankLayer]:
    """Put the updates of several variants, {layer name: update} each, beside the layers they name.

    The module's input rows must then be one equal group a variant, in this order. A variant that has no update of a
    layer (or none at all: the untouched base) leaves that layer's output as it is. The rank that is computed with is
    padded to a multiple of `multiple`: a GPU's matrix units want 8 numbers in a row. Raises AdapterError, before
    anything is changed, for names or shapes that do not fit.
    """
    layers = dict(module.named_modules())
    faults = [
        fault
        for updates in variants
        for name, update in updates.items()
        if (fault := _misfit(name, layers.get(name), update))
    ]
    if faults:
        count = sum(map(len, variants))
        raise AdapterError(f"{len(faults)} of {count} updates do not fit this base: {'; '.join(faults[:3])}")
    injected = {}
    for name in dict.fromkeys(name for updates in variants for name in updates):
        original = cast("nn.Linear | nn.Conv2d", layers[name])  # `_misfit` has seen to it
        some = next(updates[name] for updates in variants if name in updates)
        nothing = LowRankUpdate(torch.zeros_like(some.down[:1]), torch.zeros_like(some.up[:, :1]), 1.0)
        stacked = [updates.get(name, nothing) for updates in variants]
        injected[name] = LowRankLayer(original, stacked, strengths, multiple)
        replace_layer(module, name, injected[name])
    return injected


def _one_after_another(tensors: Sequence[Tensor]) -> Tensor | None:
    """Tensors (V, …) of one storage at even distances as a view (V, J, …), or None where they do not lie so."""
    first, *others = (tensor.detach() for tensor in tensors)
    distance = others[0].storage_offset() - first.storage_offset() if others else 0
    for index, tensor in enumerate(others, 1):
        like = (tensor.shape, tensor.stride(), tensor.dtype) == (first.shape, first.stride(), first.dtype)
        same_storage = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (like and same_storage and tensor.storage_offset() == first.storage_offset() + index * distance):
            return None
    shape, stride = (first.shape[0], len(tensors), *first.shape[1:]), (first.stride(0), distance, *first.stride()[1:])
    return first.as_strided(shape, stride)


def _padded(tensor: Tensor, dimension: int, size: int) -> Tensor:
    """`tensor` with zeros added at the end of `dimension` up to `size`."""
    lacking = size - tensor.shape[dimension]
    if not lacking:
        return tensor
    shape = [lacking if index == dimension else extent for index, extent in enumerate(tensor.shape)]
    return torch.cat([tensor, tensor.new_zeros(shape)], dimension)


def _misfit(name: str, layer: nn.Module | None, update: LowRankUpdate) -> str:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"{name} is no linear or convolution layer here"
    into, out = layer.weight.shape[1], layer.weight.shape[0]
    if update.down.shape[1] != into or update.up.shape[0] != out:
        return f"{name} maps {into} to {out}, the update {update.down.shape[1]} to {update.up.shape[0]}"
    return ""
