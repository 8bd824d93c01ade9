"""Changes of a weight that are no low-rank update beside it: they depend on the base's weights, or are as large.

A DoRA gives each row of W + scale · up down its learnt length (Liu et al. 2024, equation 5). A full difference is
added. OFT turns blocks of rows, W' = Rᵀ W with R = (I + Q)(I − Q)⁻¹ and Q skew (Qiu et al. 2023, section 4; transposed
as kohya and LyCORIS have it). Such changes can only be merged; a strength between 0 and 1 goes from W to W'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from limner.adapters.low_rank import LowRankUpdate
from limner.errors import AdapterError

SMALLEST_NORM = 1e-8  # kohya and LyCORIS add it to Q's before they divide


class Change(Protocol):
    """What a file does to one tensor of a base."""

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether it is for a tensor of this shape."""
        ...

    def delta(self, weight: Tensor) -> Tensor:
        """What is added to the weight (fp32) at strength 1, in its shape."""
        ...


@dataclass(frozen=True)
class LowRank:
    """A low-rank update."""

    update: LowRankUpdate

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether it maps as the layer does."""
        return (self.update.up.shape[0], *self.update.down.shape[1:]) == tuple(shape)

    def delta(self, weight: Tensor) -> Tensor:
        """(alpha / rank) up down."""
        update = self.update
        product = update.scale * update.up.flatten(1).float() @ update.down.flatten(1).float()  # (out, in · …)
        return product.reshape(weight.shape)


@dataclass(frozen=True)
class Rescaled:
    """A low-rank update whose sum with the weight gets new lengths: DoRA."""

    update: LowRankUpdate
    magnitude: Tensor

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether update and lengths are the layer's."""
        return LowRank(self.update).fits(shape) and self.magnitude.numel() in shape[:2]

    def delta(self, weight: Tensor) -> Tensor:
        """From the weight to the rescaled sum."""
        return _rescaled(weight + LowRank(self.update).delta(weight), self.magnitude.float()) - weight


@dataclass(frozen=True)
class Difference:
    """A whole tensor that is added: LyCORIS' "full", biases and norms."""

    tensor: Tensor

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether it has the tensor's shape, 1x1 kernels aside."""
        return _without_ones(self.tensor.shape) == _without_ones(shape)

    def delta(self, weight: Tensor) -> Tensor:
        """The difference."""
        return self.tensor.float().reshape(weight.shape)


@dataclass(frozen=True)
class Rotation:
    """Blocks (n, b, b) whose skew part turns n blocks of b rows each; `rescale` (out, 1, …) then stretches rows."""

    blocks: Tensor
    constraint: float = 0.0  # the largest norm of Q, as a share of the rows; 0 means none
    rescale: Tensor | None = None

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the blocks cover the rows."""
        rows = self.blocks.shape[0] * self.blocks.shape[1]
        return rows == shape[0] and (self.rescale is None or self.rescale.numel() == rows)

    def delta(self, weight: Tensor) -> Tensor:
        """From the weight to the turned one."""
        count, size = self.blocks.shape[:2]
        turned = self.matrices().transpose(1, 2) @ weight.reshape(count, size, -1)
        turned = turned.reshape(len(weight), -1)
        if self.rescale is not None:
            turned = self.rescale.float().reshape(-1, 1) * turned
        return turned.reshape(weight.shape) - weight

    def matrices(self) -> Tensor:
        """R of each block, (n, b, b) orthogonal: Cayley's transform."""
        blocks = self.blocks.float()
        skew = blocks - blocks.transpose(1, 2)
        largest = self.constraint * self.blocks.shape[0] * self.blocks.shape[1]
        if largest > 0 and (norm := float(skew.norm()) + SMALLEST_NORM) > largest:
            skew = skew * (largest / norm)
        one = torch.eye(blocks.shape[1])
        return torch.linalg.solve(one - skew, one + skew)  # both factors are functions of Q: their order is free


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


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [side for side in shape if side != 1]
