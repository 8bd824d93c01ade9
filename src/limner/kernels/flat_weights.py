"""Everything that is trained, end to end in one row a variant, so that one kernel can clip and update all of it.

In fp32 the row holds the weights themselves. In bf16 it holds what the modules compute with, and beside it the sixteen
bits by which each differs from its exact fp32 master, or nothing where the master was given up for memory.

Shapes: V variants (1 for whole weights), P numbers a variant, a whole number of quantisation blocks for each tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.kernels.split_weights import join, split

BLOCK = 256  # numbers that share the scales of their 8-bit moments; no block crosses two tensors
CHANNELS_LAST = (0, 2, 3, 1)  # the order in memory of a convolution's weight (out, in, height, width)


@dataclass(frozen=True)
class Segment:
    """Where a trained tensor lies in its row, and the order of its dimensions there."""

    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers of the tensor."""
        return math.prod(self.shape)

    @property
    def padded(self) -> int:
        """Numbers up to the next tensor."""
        return -(-self.count // BLOCK) * BLOCK

    def of(self, rows: Tensor) -> Tensor:
        """The tensor (V, *shape), as a view of `rows` (V, P)."""
        laid = rows[:, self.offset : self.offset + self.count].unflatten(1, [self.shape[i] for i in self.order])
        return laid.permute(0, *(1 + self.order.index(i) for i in range(len(self.shape))))


class FlatWeights:
    """Storage of all trained tensors by name: `weight` (V, P) and, in bf16 with exact masters, `remainder` (V, P)."""

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        variants: int,
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        exact: bool = True,
        orders: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.segments: dict[str, Segment] = {}
        size = 0
        for name, shape in shapes.items():
            order = (orders or {}).get(name, tuple(range(len(shape))))
            self.segments[name] = Segment(size, tuple(shape), order)
            size += self.segments[name].padded
        self.weight = torch.zeros(variants, size, dtype=dtype, device=device)
        split_up = exact and dtype == torch.bfloat16
        self.remainder = torch.zeros(variants, size, dtype=torch.int16, device=device) if split_up else None

    def __getitem__(self, name: str) -> Tensor:
        """What the modules compute with, (V, *shape), as a view."""
        return self.segments[name].of(self.weight)

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Every tensor (V, *shape) as a view of another (V, P), gradients say."""
        return {name: segment.of(rows) for name, segment in self.segments.items()}

    def read(self, name: str, variant: int = 0) -> Tensor:
        """A copy of one variant's tensor from its exact master, fp32 (or wider)."""
        segment = self.segments[name]
        weight = segment.of(self.weight)[variant]
        if self.remainder is not None:
            return join(weight, segment.of(self.remainder)[variant])
        return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)

    @torch.no_grad()
    def write(self, name: str, values: Tensor, variant: int = 0) -> None:
        """Take one variant's tensor, any precision, from any device."""
        segment = self.segments[name]
        weight = segment.of(self.weight)[variant]
        if self.remainder is None:
            weight.copy_(values)
            return
        high, low = split(values.to(weight.device, torch.float32))
        weight.copy_(high)
        segment.of(self.remainder)[variant].copy_(low)

    def __len__(self) -> int:
        """Variants."""
        return self.weight.shape[0]
