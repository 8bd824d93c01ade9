"""Adapters: what training adds to a base, as named parts, and how they are attached and stored."""

from limner.adapters.adapter import Adapter, attached, load_adapter, save_adapter, untouched
from limner.adapters.low_rank import LowRankLayer, LowRankUpdate, inject, inject_stacked, target_layers
from limner.adapters.low_rank_updates import LowRankUpdates
from limner.adapters.parts import Part, part_types, register_part, types_stored
from limner.adapters.stacked import StackedLayer, eject
from limner.adapters.trained import (
    fixed_parts,
    full_weights_of,
    kinds_in_all,
    kinds_of,
    load_trained,
    low_rank_of,
)
from limner.adapters.whole_weights import WholeWeights

for part in (WholeWeights, LowRankUpdates):  # in the order in which they are attached
    register_part(part)

__all__ = [
    "Adapter",
    "LowRankLayer",
    "LowRankUpdate",
    "LowRankUpdates",
    "Part",
    "StackedLayer",
    "WholeWeights",
    "attached",
    "eject",
    "fixed_parts",
    "full_weights_of",
    "inject",
    "inject_stacked",
    "kinds_in_all",
    "kinds_of",
    "load_adapter",
    "load_trained",
    "low_rank_of",
    "part_types",
    "register_part",
    "save_adapter",
    "target_layers",
    "types_stored",
    "untouched",
]
