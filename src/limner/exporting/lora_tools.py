"""`limner lora`: extract a LoRA from a full result, resize one, merge several; each says the error it leaves."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.adapters.exchange import save_kohya
from limner.adapters.exchange.names import layers
from limner.adapters.exchange.provenance import Provenance, lora_metadata
from limner.adapters.exchange.svd import resized, summed, truncated
from limner.adapters.formats import LowRank
from limner.adapters.low_rank import ATTENTION_PROJECTIONS, LowRankUpdate
from limner.artifacts import MANIFEST, require_absent
from limner.base import find_base
from limner.base.single_file.opening import open_base
from limner.base.single_file.parts import StoredTensor
from limner.errors import AdapterError, InputError
from limner.exporting.export import base_of
from limner.exporting.source import Source, open_source, plain_name

MODULES = ("unet", "text_encoder")
TARGETS = ("attention", "transformer", "all")
Weights = dict[str, dict[str, StoredTensor]]


@dataclass(frozen=True)
class WrittenLora:
    """A LoRA that was written, and how far it is from what it stands for: 0 is equal, 1 is nothing of it."""

    path: Path
    updates: int
    error: float

    def __str__(self) -> str:
        return (
            f"written: {self.path}, {self.updates} updates; what they leave out is {self.error:.2%} of the whole change"
        )


def extract(full: Path, destination: Path, rank: int, *, base: str = "", targets: str = "transformer") -> WrittenLora:
    """Write the LoRA of `rank` nearest to what a full result changed of its base.

    `full` is a trained adapter's folder, or any SD 1.5 base with `base` the one it was made from. The error counts all
    that changed, also where the LoRA has no update. Raises AdapterError where nothing changed or shapes differ.
    """
    if targets not in TARGETS:
        raise InputError(f'--targets "{targets}" is unknown; there are {", ".join(TARGETS)}')
    require_absent(destination)
    source = open_source(full, base) if (full / MANIFEST).is_file() else None
    name = source.base_name if source else base
    if not name:
        raise InputError(f"{full} does not say which base it was made from; name it with --base")
    with contextlib.ExitStack() as opened:
        location = source.base() if source else find_base(name)
        before = open_base(location.path, opened).parts.tensors
        after = _weights_after(full, source, opened)
        low_rank, left, whole = _extracted(before, after, rank, targets)
    if not low_rank:
        raise AdapterError(
            f"{full} changes nothing of {name} in the layers that a LoRA can change; is it the right base?"
        )
    origin = (
        source.provenance(location) if source else Provenance(destination.stem, plain_name(name), location.content_hash)
    )
    return _write(destination, low_rank, origin, left, whole)


def resize(lora: Path, destination: Path, rank: int) -> WrittenLora:
    """Write a LoRA at a lower rank, each layer's nearest one. Raises AdapterError for what is no LoRA."""
    require_absent(destination)
    source = _lora(lora)
    updates_by_module: dict[str, dict[str, LowRankUpdate]] = {module: {} for module in source.low_rank}
    left = whole = 0.0
    for module, updates in source.low_rank.items():
        for layer, update in updates.items():
            updates_by_module[module][layer], lost, size = resized(update, rank)
            left, whole = left + lost, whole + size
    return _write(destination, updates_by_module, source.provenance(None), left, whole)


def merge(loras: Sequence[Path], strengths: Sequence[float], destination: Path, rank: int = 0) -> WrittenLora:
    """Write several LoRAs as one, each at its strength: exactly, or with `rank` as the nearest one of that rank."""
    require_absent(destination)
    if len(loras) < 2 or len(strengths) not in (0, len(loras)):
        raise InputError(
            f"{len(loras)} LoRAs and {len(strengths)} strengths: give two or more, and a strength for each"
        )
    strengths = strengths or [1.0] * len(loras)
    sources = [_lora(path) for path in loras]
    merged: dict[str, dict[str, LowRankUpdate]] = {}
    left = whole = 0.0
    for module in MODULES:
        by_source = [source.low_rank.get(module, {}) for source in sources]
        for layer in dict.fromkeys(layer for updates in by_source for layer in updates):
            parts = [(updates[layer], at) for updates, at in zip(by_source, strengths, strict=True) if layer in updates]
            update = _summed(layer, [part for part, _ in parts], [at for _, at in parts])
            if rank:
                update, lost, size = resized(update, rank)
                left, whole = left + lost, whole + size
            merged.setdefault(module, {})[layer] = update
    return _write(destination, merged, Provenance(destination.stem), left, whole)


def _summed(layer: str, updates: Sequence[LowRankUpdate], strengths: Sequence[float]) -> LowRankUpdate:
    if len({(update.down.shape[1:], update.up.shape[0]) for update in updates}) > 1:
        raise AdapterError(f"the LoRAs' updates of {layer} have different shapes; they come from different bases")
    return summed(updates, strengths)


def _lora(path: Path) -> Source:
    source = open_source(path)
    if source.full or source.changes or not source.low_rank:
        raise AdapterError(
            f"{path} is no LoRA by itself: whole weights, and what can only be merged, cannot be resized or "
            "joined with others"
        )
    return source


def _weights_after(full: Path, source: Source | None, opened: contextlib.ExitStack) -> Weights:
    if source is None:
        return open_base(full, opened).parts.tensors
    if not source.full or source.low_rank:
        raise AdapterError(
            f"{full} is not a full result; use extract for full results and limner lora resize for LoRAs"
        )
    _, weights = opened.enter_context(base_of(source))
    return weights


def _extracted(
    before: Weights, after: Weights, rank: int, targets: str
) -> tuple[dict[str, dict[str, LowRankUpdate]], float, float]:
    """Updates by module and layer, the squared error left in all weights, and the squared size of the change."""
    low_rank: dict[str, dict[str, LowRankUpdate]] = {}
    left = whole = 0.0
    for module in MODULES:
        wanted = {f"{layer}.weight" for layer in layers(module) if _is_wanted(layer, targets)}
        for key, stored in before[module].items():
            other = after[module].get(key)
            if other is None or other.shape != stored.shape:
                raise AdapterError(f"{module}.{key} has different shapes in the two; they come from different bases")
            delta = other.tensor().float() - stored.tensor().float()
            size = float(delta.double().square().sum())
            whole += size
            if size and key in wanted:
                layer = key.removesuffix(".weight")
                low_rank.setdefault(module, {})[layer], size = truncated(delta, rank)
            left += size
    return low_rank, left, whole


def _is_wanted(layer: str, targets: str) -> bool:
    if targets == "attention":
        return layer.endswith(ATTENTION_PROJECTIONS)
    return targets == "all" or ".attentions." in layer or layer.startswith("encoder.layers.")


def _write(path: Path, low_rank: LowRank, origin: Provenance, left: float, whole: float) -> WrittenLora:
    save_kohya(path, low_rank, lora_metadata(origin, low_rank), torch.float32)
    return WrittenLora(path, sum(map(len, low_rank.values())), math.sqrt(left / whole) if whole else 0.0)
