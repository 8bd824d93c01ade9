"""Augmented views of pictures, made on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from miniature.settings import PICTURE_PX


@dataclass(frozen=True)
class ViewRange:
    """How far a view may depart from the picture."""

    zoom: tuple[float, float]
    """Side of the window as a share of the picture's side; above 1 the border is mirrored."""
    shift: float
    """Largest offset of the window's centre, as a share of the picture's side."""
    turn_degrees: float = 0.0
    untouched_share: float = 0.0
    """Share of views that are only flipped, so that nothing is blurred by resampling."""


VAE_VIEWS = ViewRange(zoom=(0.8, 1.05), shift=0.08, untouched_share=0.5)
CLIP_VIEWS = ViewRange(zoom=(0.6, 1.1), shift=0.12, turn_degrees=12)
LATENT_VIEWS = ViewRange(zoom=(0.88, 1.04), shift=0.05, turn_degrees=4, untouched_share=0.25)


def draw_transforms(generator: torch.Generator, count: int, limits: ViewRange) -> Tensor:
    """Affine maps from view to picture coordinates, (B, 2, 3)."""
    device = generator.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator, device=device) * (high - low) + low

    moves = (uniform(0, 1) >= limits.untouched_share).float()
    zoom = 1 + (uniform(*limits.zoom) - 1) * moves
    angle = uniform(-1, 1) * math.radians(limits.turn_degrees) * moves
    flip = 1 - 2 * (uniform(0, 1) < 0.5).float()
    shift_x, shift_y = (uniform(-2, 2) * limits.shift * moves for _ in range(2))
    first = torch.stack([zoom * angle.cos() * flip, -zoom * angle.sin(), shift_x], -1)
    second = torch.stack([zoom * angle.sin() * flip, zoom * angle.cos(), shift_y], -1)
    return torch.stack([first, second], 1)


def make_views(pictures: Tensor, transforms: Tensor, side_px: int = PICTURE_PX, mode: str = "bilinear") -> Tensor:
    """Pictures (B, H, W, 3) uint8 to views (B, 3, side, side) in [-1, 1]."""
    pixel_values = to_pixel_values(pictures)
    grid = F.affine_grid(transforms, [len(pictures), 3, side_px, side_px], align_corners=False)
    views = F.grid_sample(pixel_values, grid, mode=mode, padding_mode="reflection", align_corners=False)
    return views.clamp(-1, 1)


def to_pixel_values(pictures: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(pixel_values: Tensor) -> np.ndarray:
    """Float (B, 3, H, W) in [-1, 1] to uint8 (B, H, W, 3)."""
    scaled = (pixel_values.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def draw_styles(generator: torch.Generator, count: int, styles: int, photo_share: float) -> Tensor:
    """Style indices: the photo (style 0) with `photo_share`, the others evenly."""
    device = generator.device
    other = torch.randint(1, styles, (count,), generator=generator, device=device)
    is_styled = torch.rand(count, generator=generator, device=device) >= photo_share
    return other * is_styled


def upload(pixels: np.ndarray, rows: np.ndarray, device: str) -> Tensor:
    """Copy chosen rows of a large uint8 array to the device, piece by piece."""
    result = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), 128):
        piece = np.array(pixels[rows[start : start + 128]])
        result[start : start + 128] = torch.from_numpy(piece).to(device)
    return result
