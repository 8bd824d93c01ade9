"""Find, load, inspect, convert and describe base models; turn prompts into embeddings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limner.base.find import BaseLocation, find_base
    from limner.base.load import Base, load_base, quiet_libraries
    from limner.base.placement import Part, modules_placed, placed
    from limner.base.prompts import PromptTokens, encode_prompts, tokenize

__all__ = [
    "Base",
    "BaseLocation",
    "Part",
    "PromptTokens",
    "encode_prompts",
    "find_base",
    "load_base",
    "modules_placed",
    "placed",
    "quiet_libraries",
    "tokenize",
]

_MODULES = {
    "find": ("BaseLocation", "find_base"),
    "load": ("Base", "load_base", "quiet_libraries"),
    "placement": ("Part", "modules_placed", "placed"),
    "prompts": ("PromptTokens", "encode_prompts", "tokenize"),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: inspecting a file should not wait a second for torch."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
