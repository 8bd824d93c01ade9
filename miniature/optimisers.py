"""Muon for the matrices of a network: one batch of small matrix products for all weights of a shape, no look back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
SMALLEST_SIDE = 16
"""A matrix with a shorter side (first and last convolutions) is left to AdamW."""


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest matrices (N, rows, columns) with singular values near one, in bfloat16 on a GPU.

    Newton-Schulz iteration of Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    dtype = torch.bfloat16 if matrices.is_cuda else torch.float32
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.float().square().sum((1, 2), keepdim=True).sqrt() + 1e-7).to(dtype)
    first, second, third = COEFFICIENTS
    for _ in range(ITERATIONS):
        products = x @ x.mT
        x = first * x + (second * products + third * products @ products) @ x
    return x.mT if tall else x


def takes_matrix(name: str, value: Tensor) -> bool:
    """Whether a parameter is a matrix (a convolution's read as one) with both sides long enough; no embeddings."""
    return (
        value.ndim in (2, 4)
        and min(value.shape[0], value[0].numel()) >= SMALLEST_SIDE
        and "embedding" not in "".join(name.split(".")[-2:-1])
    )


class Muon:
    """Momentum, orthogonalised and scaled to the size of AdamW's updates (Liu et al. 2025, arXiv 2502.16982)."""

    def __init__(self, parameters: list[nn.Parameter], weight_decay: float, momentum: float = 0.95) -> None:
        self.weight_decay, self.momentum = weight_decay, momentum
        self.groups: dict[tuple[int, int], list[nn.Parameter]] = {}
        for value in parameters:
            self.groups.setdefault((value.shape[0], value[0].numel()), []).append(value)
        self.buffers = {
            shape: torch.zeros(len(values), *shape, device=values[0].device) for shape, values in self.groups.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: Tensor, finite: Tensor) -> None:
        """One update from the parameters' gradients; does nothing where `finite` (a scalar of 0 or 1) is 0."""
        for shape, values in self.groups.items():
            gradients = torch.stack([value.grad.reshape(shape) for value in values]).float()
            gradients = gradients.nan_to_num(0.0, 0.0, 0.0) * finite
            buffer = self.buffers[shape]
            buffer.lerp_(gradients, 1 - self.momentum)
            nesterov = torch.lerp(gradients, buffer, self.momentum)
            updates = orthogonalised(nesterov).float() * (0.2 * max(shape) ** 0.5)
            rate = learning_rate * finite
            torch._foreach_mul_(values, 1 - rate * self.weight_decay)
            pieces = [(update * -rate).reshape(value.shape) for update, value in zip(updates, values, strict=True)]
            torch._foreach_add_(values, pieces)

    def state_dict(self) -> dict[str, Any]:
        """The momentum, by shape."""
        return {f"{rows}x{columns}": buffer for (rows, columns), buffer in self.buffers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a saved momentum."""
        for (rows, columns), buffer in self.buffers.items():
            buffer.copy_(state[f"{rows}x{columns}"])
