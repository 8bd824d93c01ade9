"""Low-rank updates of a base's layers, as a part of an adapter: what a LoRA is.

pytorch_lora_weights.safetensors    in the PEFT layout that diffusers loads, alpha in the header (`formats`)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from limner.adapters.formats import LORA_FILE, load_low_rank, save_low_rank
from limner.adapters.low_rank import LowRankLayer, LowRankUpdate, inject, inject_stacked
from limner.adapters.parts import Part
from limner.adapters.stacked import StackedLayer, eject
from limner.artifacts import hash_bytes


@dataclass(frozen=True)
class LowRankUpdates(Part):
    """{module: {layer name: update}}."""

    updates: Mapping[str, Mapping[str, LowRankUpdate]]

    kind = "low_rank"
    title = "low-rank updates"
    is_stackable = True

    def modules(self) -> tuple[str, ...]:
        """Those that have updates."""
        return tuple(self.updates)

    @contextlib.contextmanager
    def attached(self, modules: Mapping[str, Any], strength: float = 1.0) -> Iterator[None]:
        """Inject them for the time of the block; `strength` multiplies them (1 is as trained)."""
        try:
            for name, updates in self.updates.items():
                inject(modules[name], updates, strength)
            yield
        finally:
            for name in self.updates:
                eject(modules[name], LowRankLayer)

    def save(self, folder: Path) -> None:
        """One file."""
        save_low_rank(folder / LORA_FILE, self.updates)

    @classmethod
    def is_stored(cls, files: Collection[str]) -> bool:
        """Whether its file is among them."""
        return LORA_FILE in files

    @classmethod
    def load(cls, folder: Path) -> Self:
        """All of the file."""
        return cls(load_low_rank(folder / LORA_FILE))

    def content_hash(self) -> str:
        """SHA-256 over names, alphas, shapes and bytes."""
        parts = []
        for module, updates in sorted(self.updates.items()):
            for name, update in sorted(updates.items()):
                content = b"".join(each.detach().cpu().numpy().tobytes() for each in (update.down, update.up))
                parts.append(f"{module}.{name} {update.alpha} {tuple(update.down.shape)} {hash_bytes(content)}")
        return hash_bytes("\n".join(parts).encode())

    def of(self, names: Collection[str]) -> Self:
        """Those of these modules."""
        return replace(self, updates={name: each for name, each in self.updates.items() if name in names})

    def on(self, earlier: LowRankUpdates) -> Self:
        """A module's updates are those that were trained last."""
        return replace(self, updates={**earlier.updates, **self.updates})

    @classmethod
    def stack(
        cls,
        module: nn.Module,
        name: str,
        parts: Sequence[LowRankUpdates | None],
        strengths: Sequence[float],
        dtype: torch.dtype,
    ) -> Mapping[str, StackedLayer]:
        """Beside one another, padded to the highest rank of each layer."""
        updates = [_in(dtype, part.updates.get(name, {})) if part else {} for part in parts]
        return inject_stacked(module, updates, strengths)

    @classmethod
    def loading_lines(cls, folder: str, files: Collection[str]) -> list[str]:
        """As diffusers loads a LoRA."""
        return [f"pipeline.load_lora_weights({json.dumps(folder)})"]


def _in(dtype: torch.dtype, updates: Mapping[str, LowRankUpdate]) -> dict[str, LowRankUpdate]:
    """The updates in the precision that they are computed in, so that no step casts them again."""
    return {name: replace(each, down=each.down.to(dtype), up=each.up.to(dtype)) for name, each in updates.items()}
