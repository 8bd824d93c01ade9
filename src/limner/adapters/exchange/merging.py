"""Low-rank updates merged into a base's weights, layer by layer while they are written.

W' = W + strength (alpha / rank) up down. A DoRA's row then gets its learnt length (Liu et al. 2024, equation 5):
W' = m W' / |W'|, and a strength between 0 and 1 goes from W to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.adapters.formats import LowRank
from limner.adapters.low_rank import LowRankUpdate
from limner.base.single_file.parts import StoredTensor, cast
from limner.base.single_file.writing import Weights, Writable
from limner.base.weights.streaming import DTYPES, NewTensor, from_tensor
from limner.errors import AdapterError

Magnitudes = Mapping[tuple[str, str], Tensor]


@dataclass(frozen=True)
class MergedTensor:
    """A stored weight with an update in it, made when it is written."""

    stored: StoredTensor
    update: LowRankUpdate
    strength: float
    magnitude: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """As diffusers has it."""
        return self.stored.shape

    def written(self, shape: tuple[int, ...], dtype: torch.dtype | None) -> NewTensor:
        """It as a tensor to be written; in the stored one's precision where none is named."""
        wanted = dtype or DTYPES[self.stored.dtype]
        return from_tensor(wanted, shape, lambda: cast(self._made(), wanted, self.stored.name))

    def _made(self) -> Tensor:
        return merged(self.stored.tensor(), self.update, self.strength, self.magnitude)


def merged(weight: Tensor, update: LowRankUpdate, strength: float, magnitude: Tensor | None = None) -> Tensor:
    """A layer's weight (out, in, …) with its update in it, fp32."""
    delta = update.scale * update.up.flatten(1).float() @ update.down.flatten(1).float()  # (out, in · …)
    own = weight.float()
    if magnitude is None:
        return own + strength * delta.reshape(weight.shape)
    moved = own + delta.reshape(weight.shape)
    return own + strength * (_rescaled(moved, magnitude.float()) - own)


def _rescaled(weight: Tensor, magnitude: Tensor) -> Tensor:
    """Rows (or, as LyCORIS' first version had it, columns) of a weight with the lengths that were learnt."""
    flat = weight.flatten(1)
    if magnitude.numel() == weight.shape[0]:
        return (flat * (magnitude.reshape(-1, 1) / flat.norm(dim=1, keepdim=True))).reshape(weight.shape)
    if magnitude.numel() == weight.shape[1]:
        by_column = weight.transpose(0, 1).flatten(1)
        scaled = by_column * (magnitude.reshape(-1, 1) / by_column.norm(dim=1, keepdim=True))
        return scaled.reshape(weight.transpose(0, 1).shape).transpose(0, 1)
    raise AdapterError(f"a DoRA's {magnitude.numel()} lengths fit neither rows nor columns of {tuple(weight.shape)}")


def merged_weights(
    weights: Mapping[str, Mapping[str, StoredTensor]],
    low_rank: LowRank,
    strength: float = 1.0,
    magnitudes: Magnitudes | None = None,
) -> Weights:
    """All weights of a base, those that have an update with it. Raises AdapterError for updates that fit no weight."""
    made: dict[str, dict[str, Writable]] = {part: dict(own) for part, own in weights.items()}
    faults = []
    for module, updates in low_rank.items():
        for layer, update in updates.items():
            key = f"{layer.removeprefix('text_model.')}.weight"
            stored = weights[module].get(key)
            if stored is None:
                faults.append(f"{module}.{layer} is not there")
            elif (update.up.shape[0], *update.down.shape[1:]) != stored.shape:
                into = (update.up.shape[0], *update.down.shape[1:])
                faults.append(f"{module}.{layer} is {stored.shape}, the update {into}")
            else:
                made[module][key] = MergedTensor(stored, update, strength, (magnitudes or {}).get((module, layer)))
    if faults:
        count = sum(map(len, low_rank.values()))
        raise AdapterError(f"{len(faults)} of {count} updates do not fit this base: {'; '.join(faults[:3])}")
    return made
