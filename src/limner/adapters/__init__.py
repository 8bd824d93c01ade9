"""Adapters: what training adds to a base, whole weights or low-rank updates, and how it is attached and stored."""

from limner.adapters.adapter import Adapter, attached, untouched
from limner.adapters.formats import load_adapter, save_adapter
from limner.adapters.low_rank import LowRankLayer, LowRankUpdate, eject, inject, inject_stacked, target_layers
from limner.adapters.trained import continuation_fault, full_weights_of, load_trained, low_rank_of, require_start

__all__ = [
    "Adapter",
    "LowRankLayer",
    "LowRankUpdate",
    "attached",
    "continuation_fault",
    "eject",
    "full_weights_of",
    "inject",
    "inject_stacked",
    "load_adapter",
    "load_trained",
    "low_rank_of",
    "require_start",
    "save_adapter",
    "target_layers",
    "untouched",
]
