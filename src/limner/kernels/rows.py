"""Where trained tensors lie: in rows of numbers, each tensor a segment that begins at a multiple of 256.

A row is one variant of a sweep; what trains alone has one row. Gradients lie in rows of the same layout, or scattered
where autograd put them, to be found by their addresses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.kernels.eight_bit import BLOCK

CHUNK = 1024  # numbers that one program of a GPU takes; a multiple of BLOCK
ALIGNMENT_BYTES = 16


@dataclass(frozen=True)
class RowLayout:
    """Segments of a row: sizes, first positions, and the row's whole length P, padding included."""

    sizes: tuple[int, ...]
    offsets: tuple[int, ...]
    length: int

    def segments(self, row: Tensor) -> list[Tensor]:
        """Views (size,) of every tensor's numbers in a row (P,)."""
        return [row[offset : offset + size] for offset, size in zip(self.offsets, self.sizes, strict=True)]


def row_layout(sizes: Sequence[int]) -> RowLayout:
    """The layout of tensors of `sizes` numbers, in their order."""
    offsets, length = [], 0
    for size in sizes:
        offsets.append(length)
        length += math.ceil(size / BLOCK) * BLOCK
    return RowLayout(tuple(sizes), tuple(offsets), length)


class BlockGroups:
    """Which of G parameter groups each block of a row belongs to: their learning rates and weight decays differ.

    A group's tensors may lie anywhere in the row. What pads a tensor is of its group.
    """

    def __init__(self, groups: Sequence[Sequence[tuple[int, int]]], length: int, device: torch.device | str) -> None:
        """`groups`: for each its tensors' (first, last) numbers in a row of `length`, padding included."""
        index = torch.zeros(length // BLOCK, dtype=torch.uint8)
        for group, tensors in enumerate(groups):
            for first, last in tensors:
                index[first // BLOCK : last // BLOCK] = group
        self.index = index.to(device)  # (P/256,)
        values, counts = torch.unique_consecutive(index, return_counts=True)
        ends = (counts.cumsum(0) * BLOCK).tolist()
        self.runs = list(zip(values.tolist(), [0, *ends[:-1]], ends, strict=True))  # (group, first, last)

    def of_numbers(self, numbers: Tensor, part: slice) -> Tensor:
        """The `numbers` (R, G) of groups as those of a `part` of the row (R, n): each number's group's."""
        index = self.index[part.start // BLOCK : part.stop // BLOCK].to(torch.int64)
        return numbers[:, index].repeat_interleave(BLOCK, 1)

    def of_tensors(self, layout: RowLayout) -> list[int]:
        """The group of each tensor of a layout."""
        return self.index[torch.tensor(layout.offsets, device=self.index.device) // BLOCK].tolist()


class ScatteredGradients:
    """The gradients of one row, left where autograd put them.

    `addresses` is a tensor of the device whose place never changes: a CUDA graph may be captured with it before the
    addresses are known, and `point_at` fills it before the first replay.
    """

    def __init__(self, layout: RowLayout, dtype: torch.dtype, device: torch.device | str, chunk: int = CHUNK):
        self.layout, self.dtype, self.chunk = layout, dtype, chunk
        self.addresses = torch.zeros(len(layout.sizes), dtype=torch.int64, device=device)  # (T,)
        self.chunks = _chunks(layout, chunk).to(device)  # (N, 4)
        self.tensors: list[Tensor] = []

    def point_at(self, gradients: Sequence[Tensor]) -> None:
        """Take the addresses of `gradients`, one of each segment; their numbers must lie in the weights' order.

        Raises LimnerError for a gradient of another size, dtype or alignment, or with gaps.
        """
        for index, (gradient, size) in enumerate(zip(gradients, self.layout.sizes, strict=True)):
            dense = gradient.is_contiguous() or gradient.is_contiguous(memory_format=torch.channels_last)
            fits = gradient.numel() == size and gradient.dtype == self.dtype and dense
            if not fits or gradient.data_ptr() % ALIGNMENT_BYTES:
                raise LimnerError(
                    f"gradient {index} is {tuple(gradient.shape)} {gradient.dtype} of strides {gradient.stride()} at "
                    f"{gradient.data_ptr():#x}; the fused step takes dense {self.dtype} of {size} numbers, aligned to "
                    f"{ALIGNMENT_BYTES} bytes: copy the gradients into one row and pass that"
                )
        self.tensors = list(gradients)
        addresses = torch.tensor([gradient.data_ptr() for gradient in gradients], dtype=torch.int64)
        self.addresses.copy_(addresses)

    def flat(self) -> list[Tensor]:
        """The gradients (size,) each, in the order of their memory."""
        return [gradient.as_strided((gradient.numel(),), (1,)) for gradient in self.tensors]

    def row(self) -> Tensor:
        """The gradients copied into one row (1, P)."""
        row = torch.zeros(self.layout.length, dtype=self.dtype, device=self.addresses.device)
        for segment, gradient in zip(self.layout.segments(row), self.flat(), strict=True):
            segment.copy_(gradient)
        return row[None]


def _chunks(layout: RowLayout, chunk: int) -> Tensor:
    """(N, 4) of every chunk: its tensor, first position in the tensor, first position in the row, count."""
    parts = []
    for tensor, (offset, size) in enumerate(zip(layout.offsets, layout.sizes, strict=True)):
        starts = torch.arange(0, size, chunk)
        counts = (size - starts).clamp_max(chunk)
        parts.append(torch.stack([torch.full_like(starts, tensor), starts, offset + starts, counts], 1))
    return torch.cat(parts)
