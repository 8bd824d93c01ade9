"""Low-rank updates made from weights and from each other, with the error that is left.

The best update of rank r keeps the r largest singular values (Eckart and Young, 1936).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.adapters.low_rank import LowRankUpdate


def truncated(delta: Tensor, rank: int) -> tuple[LowRankUpdate, float]:
    """The nearest update of `rank` to a change (out, in, …) of a layer's weight, and the squared error left.

    By the eigenvectors of the smaller Gram matrix, in fp64: as exact as an SVD in fp32, and many times faster.
    """
    flat = delta.flatten(1).double()  # (out, in · …)
    tall = flat.shape[0] > flat.shape[1]
    gram = flat.T @ flat if tall else flat @ flat.T
    rank = min(rank, len(gram))
    basis = torch.linalg.eigh(gram).eigenvectors[:, -rank:]  # (n, r), of the largest eigenvalues
    up, down = (flat @ basis, basis.T) if tall else (basis, basis.T @ flat)
    left = float((flat - up @ down).square().sum())
    return balanced(up, down, delta.shape[2:]), left


def resized(update: LowRankUpdate, rank: int) -> tuple[LowRankUpdate, float, float]:
    """An update at a lower rank, the squared error left, and the squared size of what it was."""
    up, down = update.scale * update.up.flatten(1).double(), update.down.flatten(1).double()
    (left, r_up), (right, r_down) = torch.linalg.qr(up), torch.linalg.qr(down.T)
    u, values, vh = torch.linalg.svd(r_up @ r_down.T)
    squares, rank = values.square(), min(rank, len(values))
    shortened = balanced(left @ u[:, :rank] * values[:rank], vh[:rank] @ right.T, update.down.shape[2:])
    return shortened, float(squares[rank:].sum()), float(squares.sum())


def summed(updates: Sequence[LowRankUpdate], strengths: Sequence[float]) -> LowRankUpdate:
    """Several updates of one layer as one, exactly: their ranks add up."""
    down = torch.cat([update.down.float() for update in updates])
    scaled = [
        update.up.float() * (update.scale * strength) for update, strength in zip(updates, strengths, strict=True)
    ]
    return LowRankUpdate(down, torch.cat(scaled, 1), float(len(down)))


def balanced(up: Tensor, down: Tensor, kernel: Sequence[int]) -> LowRankUpdate:
    """Factors (out, r) and (r, in · …) as an update of scale 1 whose halves are of equal size, fp32."""
    ratio = (down.norm(dim=1) / up.norm(dim=0).clamp_min(1e-30)).sqrt().clamp(1e-15, 1e15)
    up, down = (up * ratio).float(), (down / ratio[:, None]).float()
    if len(kernel):
        up, down = up[:, :, None, None], down.reshape(len(down), -1, *kernel)
    return LowRankUpdate(down.contiguous(), up.contiguous(), float(len(down)))
