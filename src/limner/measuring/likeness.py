"""Subject fidelity and copying, as plain functions of embeddings.

Legend: N renders, M photos, V views of a photo, D features; embeddings have unit norm, so that a product is a cosine.
Likeness follows DreamBench (Ruiz et al. 2023, section 4.2): the mean cosine of a render to all photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST_PHOTOS = 4  # below, what photos say of each other is too little to compare with


def likeness(renders: Tensor, photos: Tensor) -> Tensor:
    """Mean cosine of each render (N, D) to all photos (M, D): (N,)."""
    return (renders @ photos.T).mean(1)


def likeness_like_for_like(pictures: Tensor, cut: Tensor, heads: Tensor, whole: Tensor) -> Tensor:
    """Likeness (N,) of pictures (N, D), of which those that were cut (N,) show a head and the others are whole.

    Heads are compared with the photos' heads (H, D), whole pictures with whole photos (M, D).
    """
    if bool(cut.all()):
        return likeness(pictures, heads)
    return torch.where(cut, likeness(pictures, heads), likeness(pictures, whole))


def ceiling(photos: Tensor) -> float | None:
    """What a real photo of the subject scores: each against the others, then the mean; None under four photos."""
    if len(photos) < FEWEST_PHOTOS:
        return None
    return float((photos @ photos.T).fill_diagonal_(torch.nan).nanmean())


def span_fraction(value: float, floor: float | None, top: float | None) -> float | None:
    """How far `value` has come from the untouched base (0) to real photos (1); None where there is no span."""
    if floor is None or top is None or top <= floor:
        return None
    return (value - floor) / (top - floor)


def nearest_photo(renders: Tensor, views: Tensor, same_photo: Tensor | None = None) -> Tensor:
    """Cosine of each render (N, D) to the nearest view of any photo (M, V, D): (N,).

    `same_photo` (N,) names the photo that a picture is itself, which does not count (-1 for none).
    """
    similarity = photo_similarities(renders, views)
    if same_photo is not None:
        known = same_photo >= 0
        similarity[known.nonzero()[:, 0], same_photo[known]] = -torch.inf
    return similarity.amax(1)


def photo_similarities(renders: Tensor, views: Tensor) -> Tensor:
    """Cosine of each render (N, D) to the nearest view of each photo (M, V, D): (N, M)."""
    return torch.einsum("nd,mvd->nmv", renders, views).amax(2)


@dataclass(frozen=True)
class PhotoSpread:
    """How near the subject's real photos come to each other: for each photo the cosine to its nearest other."""

    nearest: list[float]  # ascending

    @property
    def limit(self) -> float:
        """The nearest that any two photos come: a render above it is nearer to a photo than any photo to another."""
        return self.nearest[-1]

    def rank(self, similarity: float) -> float:
        """Share of photos whose nearest other is less near than `similarity`, from 0 to 1."""
        return sum(value < similarity for value in self.nearest) / len(self.nearest)


def photo_spread(views: Tensor) -> PhotoSpread | None:
    """The spread of M photos, each against the views of the others (M, V, D), view 0 the photo; None under four."""
    if len(views) < FEWEST_PHOTOS:
        return None
    return PhotoSpread(sorted(nearest_photo(views[:, 0], views, torch.arange(len(views))).tolist()))
