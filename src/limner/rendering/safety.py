"""The base's safety checker, if it includes one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


@torch.inference_mode()
def check_pictures(checker: Any, feature_extractor: Any, images: np.ndarray) -> tuple[np.ndarray, list[bool]]:
    """Pictures (B, H, W, 3) uint8 with the flagged ones black, as in diffusers, and which were flagged."""
    from PIL import Image

    weight = next(checker.parameters())
    pictures = [Image.fromarray(image) for image in images]
    features = feature_extractor(pictures, return_tensors="pt").pixel_values  # (B, 3, 224, 224)
    return checker(clip_input=features.to(weight.device, weight.dtype), images=images.copy())
