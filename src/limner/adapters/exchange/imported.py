"""A LoRA that was made elsewhere, as an adapter of a run: checked against the base, then kept as it is or merged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from limner.adapters.adapter import Adapter
from limner.adapters.exchange.merging import merged_weights
from limner.adapters.exchange.reading import PEFT_CONFIG, ForeignLora, load_foreign, lora_file_in
from limner.adapters.formats import LORA_FILE, save_low_rank
from limner.adapters.low_rank import LowRankUpdate
from limner.adapters.low_rank_updates import LowRankUpdates
from limner.adapters.trained import kinds_in_all, low_rank_of
from limner.adapters.whole_weights import WholeWeights, weights_file
from limner.artifacts import MANIFEST, AdapterFolder, canonical_json, hash_bytes, hash_file
from limner.base import BaseLocation
from limner.base.single_file.opening import open_base
from limner.base.single_file.writing import Weights
from limner.base.weights.streaming import write_tensors
from limner.errors import AdapterError


def read_imported(path: Path) -> ForeignLora:
    """A LoRA made elsewhere, or a run's adapter. Raises AdapterError as `load_foreign`, and for whole weights."""
    if not (path / MANIFEST).is_file():
        return load_foreign(path)
    folder = AdapterFolder(path)
    kinds = kinds_in_all(folder)
    if WholeWeights.kind in kinds:
        raise AdapterError(
            f"{path} contains or starts from whole weights; make them the base instead: "
            f"limner export {path} BASE.safetensors --format merged, then base.model"
        )
    if kinds != {LowRankUpdates.kind}:
        raise AdapterError(f"{path} holds {', '.join(sorted(kinds))}; only low-rank updates can be taken in")
    return ForeignLora(path / LORA_FILE, low_rank_of(folder), {}, {})


def hash_of_imported(path: Path) -> str:
    """SHA-256 of all that a LoRA is read from: its file, and PEFT's configuration beside it where there is one."""
    if (path / MANIFEST).is_file():
        return AdapterFolder(path).content_hash
    file = lora_file_in(path)
    config = file.with_name(PEFT_CONFIG)
    file_hash = hash_file(file)
    return hash_bytes(canonical_json([file_hash, hash_file(config)])) if config.is_file() else file_hash


def require_fits_base(lora: ForeignLora, base: BaseLocation, vae: Path | None = None) -> None:
    """Raise AdapterError unless every update fits a layer of the base; headers are read, no weight is."""
    with _merged(lora, base, vae, 1.0):
        pass


def save_imported(folder: Path, lora: ForeignLora, strength: float = 1.0) -> None:
    """Write it as an adapter's files; `strength` scales its alphas. Raises AdapterError for what can only be merged."""
    lora.adapter()
    low_rank = {
        module: {layer: replace(update, alpha=update.alpha * strength) for layer, update in updates.items()}
        for module, updates in lora.low_rank.items()
    }
    save_low_rank(folder / LORA_FILE, low_rank, torch.float32)


def save_merged(
    folder: Path, lora: ForeignLora, base: BaseLocation, vae: Path | None = None, strength: float = 1.0
) -> None:
    """Write the whole weights of the base's modules that change, merged, in the base's precision."""
    with _merged(lora, base, vae, strength) as weights:
        for module in _changed_modules(lora):
            tensors = {key: each.written(each.shape, None) for key, each in weights[module].items()}
            write_tensors(folder / weights_file(module), tensors, {})


def merged_adapter(lora: ForeignLora, base: BaseLocation, vae: Path | None = None, strength: float = 1.0) -> Adapter:
    """The same in memory: full weights of the base's modules that change."""
    with _merged(lora, base, vae, strength) as weights:
        full = {
            module: {key: each.tensor() for key, each in weights[module].items()} for module in _changed_modules(lora)
        }
    return Adapter.of(lora.path.stem, WholeWeights(full))


def one_rank_and_alpha(low_rank: Mapping[str, Mapping[str, LowRankUpdate]]) -> tuple[int | None, float | None]:
    """The rank and alpha of all updates; None for what is not one and the same."""
    updates = [update for of_module in low_rank.values() for update in of_module.values()]
    ranks, alphas = {update.rank for update in updates}, {update.alpha for update in updates}
    return (ranks.pop() if len(ranks) == 1 else None), (alphas.pop() if len(alphas) == 1 else None)


def _changed_modules(lora: ForeignLora) -> list[str]:
    return list(dict.fromkeys([*lora.low_rank, *(module for module, _ in lora.changes)]))


@contextlib.contextmanager
def _merged(lora: ForeignLora, base: BaseLocation, vae: Path | None, strength: float) -> Iterator[Weights]:
    with contextlib.ExitStack() as opened:
        weights = open_base(base.path, opened, vae=vae).parts.tensors
        try:
            merged = merged_weights(weights, lora.low_rank, strength, lora.changes)
        except AdapterError as error:
            raise AdapterError(f"{lora.path} and {base.name}: {error}") from None
        yield merged
