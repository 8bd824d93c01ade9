"""Ranks that are not low: there an update has as many numbers as the layer beside it, or more."""

from __future__ import annotations

from functools import cache

import torch

from limner.adapters.low_rank import target_layers
from limner.config import LoraVariant, Study
from limner.config.variants import variant_stem
from limner.memory.shapes import Shapes


def ranks_not_low(study: Study, shapes: Shapes) -> dict[str, str]:
    """A sentence for each LoRA, by its name, whose rank is no longer low for some of its layers."""
    told = {}
    for variant in study.variants:
        if isinstance(variant, LoraVariant) and variant.targets != "start":  # what was trained so is trained further
            parts = (("unet", variant.unet), ("text_encoder", variant.text_encoder))
            lowest = [bound for part, on in parts if on for bound in _bounds(shapes, part, variant.targets)]
            for rank in variant.rank:
                if count := sum(rank >= bound for bound in lowest):
                    name = variant_stem(variant, rank)
                    told[name] = (
                        f"{name}: rank {rank} is no longer low for {count} of {len(lowest)} layers, where the update "
                        f"has as many numbers as the layer itself or more (from rank {_whole(min(lowest))} on)"
                    )
    return told


@cache
def _bounds(shapes: Shapes, part: str, targets: str) -> tuple[float, ...]:
    """For each layer the rank at which rank · (in + out) = in · out (Hu et al. 2022, section 4.1)."""
    module = shapes.module(part, torch.float32)
    layers = dict(module.named_modules())
    weights = [layers[name].weight for name in target_layers(module, targets)]
    sides = [(weight.shape[0], weight[0].numel()) for weight in weights]  # of a convolution in · k · k
    return tuple(into * out / (into + out) for out, into in sides)


def _whole(bound: float) -> int:
    return -int(-bound // 1)
