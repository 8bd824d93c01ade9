"""What is measured, as pure functions of embeddings, edge maps and pictures."""

from limner.measuring.drift import PromptKinds, diversities, diversity, drift, prompt_kinds
from limner.measuring.edges import TOLERANCE_PX, canny_edges, edge_agreement
from limner.measuring.likeness import (
    FEWEST_PHOTOS,
    PhotoSpread,
    ceiling,
    likeness,
    likeness_like_for_like,
    nearest_photo,
    photo_similarities,
    photo_spread,
    span_fraction,
)
from limner.measuring.power import FEWEST_OTHERS, LINE_UP, power
from limner.measuring.prompt_fidelity import class_text, prompt_fidelity
from limner.measuring.scores import (
    BASE_VARIANT,
    DECIMALS,
    Picture,
    ScoreSheet,
    base_mean,
    control_summary,
    pairs_with_base,
    share_above,
)
from limner.measuring.styles import SIDE_PX, STYLES_VERSION, put_through, styles_named

__all__ = [
    "BASE_VARIANT",
    "DECIMALS",
    "FEWEST_OTHERS",
    "FEWEST_PHOTOS",
    "LINE_UP",
    "SIDE_PX",
    "STYLES_VERSION",
    "TOLERANCE_PX",
    "PhotoSpread",
    "Picture",
    "PromptKinds",
    "ScoreSheet",
    "base_mean",
    "canny_edges",
    "ceiling",
    "class_text",
    "control_summary",
    "diversities",
    "diversity",
    "drift",
    "edge_agreement",
    "likeness",
    "likeness_like_for_like",
    "nearest_photo",
    "pairs_with_base",
    "photo_similarities",
    "photo_spread",
    "power",
    "prompt_fidelity",
    "prompt_kinds",
    "put_through",
    "share_above",
    "span_fraction",
    "styles_named",
]
