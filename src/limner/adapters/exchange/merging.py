"""Low-rank updates and other changes merged into a base's weights, layer by layer while they are written.

W' = W + strength · ΔW, where ΔW is (alpha / rank) up down, or what `changes` makes of the weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.adapters.exchange.changes import Change, LowRank
from limner.adapters.formats import LowRank as LowRankByLayer
from limner.base.single_file.parts import StoredTensor, cast
from limner.base.single_file.writing import Weights, Writable
from limner.base.weights.streaming import DTYPES, NewTensor, from_tensor
from limner.errors import AdapterError

Changes = Mapping[tuple[str, str], Change]
"""What can only be merged, by module and key ("down_blocks.….weight")."""


@dataclass(frozen=True)
class MergedTensor:
    """A stored tensor with a change in it, made when it is written."""

    stored: StoredTensor
    change: Change
    strength: float

    @property
    def shape(self) -> tuple[int, ...]:
        """As diffusers has it."""
        return self.stored.shape

    def written(self, shape: tuple[int, ...], dtype: torch.dtype | None) -> NewTensor:
        """It as a tensor to be written; in the stored one's precision where none is named."""
        wanted = dtype or DTYPES[self.stored.dtype]
        return from_tensor(wanted, shape, lambda: cast(self.tensor(), wanted, self.stored.name))

    def tensor(self) -> Tensor:
        """It with the change in it, fp32."""
        return merged(self.stored.tensor(), self.change, self.strength)


def merged(weight: Tensor, change: Change, strength: float) -> Tensor:
    """A weight (out, in, …) with a change in it, fp32."""
    weight_fp32 = weight.float()
    return weight_fp32 + strength * change.delta(weight_fp32)


def merged_weights(
    weights: Mapping[str, Mapping[str, StoredTensor]],
    low_rank: LowRankByLayer,
    strength: float = 1.0,
    changes: Changes | None = None,
) -> Weights:
    """All weights of a base, those that change with it. Raises AdapterError for changes that fit no weight."""
    merged: dict[str, dict[str, Writable]] = {part: dict(tensors) for part, tensors in weights.items()}
    faults, count = [], 0
    for module, key, change in _all_changes(low_rank, changes or {}):
        count += 1
        stored = weights[module].get(key)
        if stored is None:
            faults.append(f"{module}.{key} is not there")
        elif not change.fits(stored.shape):
            faults.append(f"{module}.{key} is {stored.shape}, and its change is for another shape")
        else:
            merged[module][key] = MergedTensor(stored, change, strength)
    if faults:
        raise AdapterError(f"{len(faults)} of {count} changes do not fit this base: {'; '.join(faults[:3])}")
    return merged


def _all_changes(low_rank: LowRankByLayer, changes: Changes) -> Iterator[tuple[str, str, Change]]:
    for module, updates in low_rank.items():
        for layer, update in updates.items():
            yield module, f"{layer.removeprefix('text_model.')}.weight", LowRank(update)
    for (module, key), change in changes.items():
        yield module, key, change
