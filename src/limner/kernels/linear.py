"""Trained linear layers, several with one input at once, and the sums of rows that are their biases' gradients.

Shapes: rows (N…, C), J layers of D outputs whose weights (D, C), or (D, C, 1, 1), are adjacent in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels.available import has_triton
from limner.kernels.side_stream import SideStream, returned_gradients


def joint_linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = ()) -> Tensor:
    """Outputs (N…, J·D) of layers side by side; their weights must be adjacent in memory (`joint_view`).

    `biases` are one for each weight, or none. One product forward and two backward for all of them. Gradients flow to
    x, every weight and every bias.
    """
    return _JointLinear.apply(x, len(weights), *weights, *biases)  # type: ignore[return-value]


def joint_view(weights: Sequence[Tensor]) -> Tensor | None:
    """The weights as one matrix (J·D, C), a view without a copy, or None where they are not adjacent."""
    first, address = weights[0], weights[0].data_ptr()
    storage = first.untyped_storage().data_ptr()
    for weight in weights:
        matches = weight.shape[1:] == first.shape[1:] and weight.dtype == first.dtype and weight.is_contiguous()
        if not matches or weight.data_ptr() != address or weight.untyped_storage().data_ptr() != storage:
            return None
        address += weight.numel() * weight.element_size()
    rows = sum(weight.shape[0] for weight in weights)
    return first.detach().as_strided((rows, *first.shape[1:]), first.stride())


def joint_bias(biases: Sequence[Tensor]) -> Tensor | None:
    """The biases as one vector (J·D,), None for none; copied where they are not adjacent."""
    if not biases:
        return None
    joint = joint_view(biases)
    return torch.cat(list(biases)) if joint is None else joint


def column_sums(rows: Tensor) -> Tensor:
    """Sums (C,) of rows (N…, C) in their precision; with Triton summed in fp32, in a fixed order."""
    if has_triton(rows):
        from limner.kernels.linear_triton import sums_of_columns

        return sums_of_columns(rows.reshape(-1, rows.shape[-1]))
    return rows.reshape(-1, rows.shape[-1]).sum(0)


class _JointLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, *weights_and_biases: Tensor) -> Tensor:
        weights, biases = weights_and_biases[:count], weights_and_biases[count:]
        joint = joint_view(weights)
        assert joint is not None  # the caller has checked
        y = functional.linear(x, joint.flatten(1), joint_bias(biases))
        ctx.side_stream, ctx.biases = SideStream.current(), biases
        ctx.save_for_backward(x.to(y.dtype), *weights)  # autocast may have computed in half precision
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        joint = joint_view(weights)
        assert joint is not None  # as in the forward pass
        dy = outputs[0].contiguous()
        rows, d_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        sizes = [weight.shape[0] for weight in weights]

        def of_weights() -> list[Tensor]:
            parts = (d_rows.mT @ rows).split(sizes)
            return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]

        d_weights = returned_gradients(ctx.side_stream, weights, of_weights, rows, d_rows)
        d_biases: Sequence[Tensor | None] = [None] * len(ctx.biases)
        if any(ctx.needs_input_grad[2 + len(weights) :]):
            d_biases = returned_gradients(ctx.side_stream, ctx.biases, lambda: column_sums(d_rows).split(sizes), d_rows)
        dx = functional.linear(dy, joint.flatten(1).mT.to(dy.dtype)) if ctx.needs_input_grad[0] else None
        return dx, None, *d_weights, *d_biases
