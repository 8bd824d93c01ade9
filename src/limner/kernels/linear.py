"""Linear layers that learn, several of one input at once, and the sums of rows that their biases learn from.

Shapes: rows (N…, C), J layers of D outputs whose weights (D, C), or (D, C, 1, 1), lie below one another in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels.aside import current_aside, learnt
from limner.kernels.available import has_triton


def joint_linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = ()) -> Tensor:
    """Outputs (N…, J·D) of layers side by side; their weights must lie below one another (`below_one_another`).

    `biases` are one for each weight, or none. One product forward and two backward for all of them. Gradients flow to
    x, every weight and every bias.
    """
    return _JointLinear.apply(x, len(weights), *weights, *biases)  # type: ignore[return-value]


def below_one_another(weights: Sequence[Tensor]) -> Tensor | None:
    """The weights as one matrix (J·D, C), a view without a copy, or None where they do not lie so."""
    first, place = weights[0], weights[0].data_ptr()
    storage = first.untyped_storage().data_ptr()
    for weight in weights:
        like = weight.shape[1:] == first.shape[1:] and weight.dtype == first.dtype and weight.is_contiguous()
        if not like or weight.data_ptr() != place or weight.untyped_storage().data_ptr() != storage:
            return None
        place += weight.numel() * weight.element_size()
    rows = sum(weight.shape[0] for weight in weights)
    return first.detach().as_strided((rows, *first.shape[1:]), first.stride())


def as_one(biases: Sequence[Tensor]) -> Tensor | None:
    """The biases as one vector (J·D,), None for none; copied where they do not lie below one another."""
    if not biases:
        return None
    joint = below_one_another(biases)
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
        joint = below_one_another(weights)
        assert joint is not None  # the caller has seen to it
        y = functional.linear(x, joint.flatten(1), as_one(biases))
        ctx.aside, ctx.biases = current_aside(), biases
        ctx.save_for_backward(x.to(y.dtype), *weights)  # autocast may have computed in half of their precision
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        joint = below_one_another(weights)
        assert joint is not None  # as in the forward pass
        dy = outputs[0].contiguous()
        rows, d_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        sizes = [weight.shape[0] for weight in weights]

        def of_weights() -> list[Tensor]:
            parts = (d_rows.mT @ rows).split(sizes)
            return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]

        d_weights = learnt(ctx.aside, weights, of_weights, rows, d_rows)
        d_biases: Sequence[Tensor | None] = [None] * len(ctx.biases)
        if any(ctx.needs_input_grad[2 + len(weights) :]):
            d_biases = learnt(ctx.aside, ctx.biases, lambda: column_sums(d_rows).split(sizes), d_rows)
        dx = functional.linear(dy, joint.flatten(1).mT.to(dy.dtype)) if ctx.needs_input_grad[0] else None
        return dx, None, *d_weights, *d_biases
