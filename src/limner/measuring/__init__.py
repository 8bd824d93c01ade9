"""What is measured, as pure functions of embeddings and edge maps."""

from limner.measuring.edges import TOLERANCE_PX, canny_edges, edge_agreement
from limner.measuring.likeness import (
    FEWEST_PHOTOS,
    PhotoSpread,
    ceiling,
    likeness,
    nearest_photo,
    photo_spread,
    span_fraction,
)
from limner.measuring.prompt_fidelity import class_text, prompt_fidelity
from limner.measuring.scores import BASE_VARIANT, DECIMALS, Picture, Scores, base_mean, gains

__all__ = [
    "BASE_VARIANT",
    "DECIMALS",
    "FEWEST_PHOTOS",
    "TOLERANCE_PX",
    "PhotoSpread",
    "Picture",
    "Scores",
    "base_mean",
    "canny_edges",
    "ceiling",
    "class_text",
    "edge_agreement",
    "gains",
    "likeness",
    "nearest_photo",
    "photo_spread",
    "prompt_fidelity",
    "span_fraction",
]
