"""Weights, gradients and moments in rows for the tests of the fused AdamW."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.kernels.adamw_numbers import Moments
from limner.kernels.rows import BlockGroups, ScatteredGradients, row_layout
from limner.kernels.split_weights import split

LAYOUT = row_layout([700, 256, 2600, 4])
KEYS = [(123456789, 4000000000), (5, 7)]


@dataclass
class Case:
    weight: Tensor
    remainder: Tensor | None
    moments: Moments
    updates: Tensor
    keys: Tensor

    def tensors(self) -> dict[str, Tensor]:
        named = {"weight": self.weight, "remainder": self.remainder, **vars(self.moments), "updates": self.updates}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def in_rows(parts: list[list[Tensor]]) -> Tensor:
    rows = torch.zeros(len(parts), LAYOUT.length, dtype=parts[0][0].dtype)
    for row, tensors in zip(rows, parts, strict=True):
        for segment, tensor in zip(LAYOUT.segments(row), tensors, strict=True):
            segment.copy_(tensor.flatten())
    return rows


def normal_parts(seed: int, rows: int, dtype: torch.dtype = torch.float32) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    wide = torch.promote_types(dtype, torch.float32)
    return [
        [torch.randn(size, generator=generator, dtype=wide).to(dtype) for size in LAYOUT.sizes] for _ in range(rows)
    ]


def groups_of(chosen: list[list[int]], device: str = "cpu") -> BlockGroups:
    """The layout's tensors in groups: `chosen` has the numbers of each group's tensors."""
    ends = [*LAYOUT.offsets[1:], LAYOUT.length]
    spans = [[(LAYOUT.offsets[index], ends[index]) for index in tensors] for tensors in chosen]
    return BlockGroups(spans, LAYOUT.length, device)


def make_case(form: str, *, eight_bit: bool = False, rows: int = 1, device: str = "cpu") -> Case:
    """`form`: "fp32", "fp64", "exact" (bf16 with remainders) or "stochastic" (bf16)."""
    weight = in_rows(normal_parts(1, rows, torch.float64 if form == "fp64" else torch.float32)).to(device)
    remainder = None
    if form == "exact":
        weight, remainder = split(weight)
    elif form == "stochastic":
        weight = weight.to(torch.bfloat16)
    moments = Moments.zeros(weight, eight_bit=eight_bit)
    updates = torch.tensor([0, 2**33 + 1][:rows], device=device)
    return Case(weight, remainder, moments, updates, torch.tensor(KEYS[:rows], device=device))


def scattered(parts: list[Tensor], device: str = "cpu", chunk: int = 2048) -> ScatteredGradients:
    gradients = ScatteredGradients(LAYOUT, parts[0].dtype, device, chunk)
    gradients.point_at([part.to(device) for part in parts])
    return gradients
