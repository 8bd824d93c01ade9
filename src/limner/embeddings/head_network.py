"""A small network that finds cats' and dogs' heads in the feature maps of EfficientNet-Lite0.

Keypoints as in CenterNet (Zhou, Wang, Krähenbühl, "Objects as points", arXiv 1904.07850): a map for each kind that
peaks in the middle of a head, and at every position the distances to the four sides of its box (FCOS, arXiv
1904.01355). EfficientNet-Lite0 comes from its package and is frozen; only this network was trained
(miniature/heads.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

KINDS = ("cat", "dog")
STRIDE_PX = 16
TAPS = {4: 40, 10: 112, 15: 320}  # blocks of EfficientNet-Lite0 that are read, and their channels; strides 8, 16, 32
WIDTH, BLOCKS, GROUPS = 96, 2, 8
PRIOR = 0.02  # share of positions that are heads: the initial scores


class HeadNetwork(nn.Module):
    """Feature maps to scores and boxes at each position of a grid with a stride of 16 px."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = TAPS.values()
        self.fine = nn.Conv2d(fine, WIDTH, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(middle, WIDTH, 1)
        self.coarse = nn.Conv2d(coarse, WIDTH, 1)
        self.mix = nn.ModuleList(_Mix(WIDTH) for _ in range(BLOCKS))
        self.norm = nn.GroupNorm(GROUPS, WIDTH)
        self.scores = nn.Conv2d(WIDTH, len(KINDS), 1)
        self.sides = nn.Conv2d(WIDTH, 4, 1)
        for convolution, start in ((self.scores, math.log(PRIOR / (1 - PRIOR))), (self.sides, 0.7)):
            nn.init.normal_(convolution.weight, std=0.01)
            nn.init.constant_(convolution.get_parameter("bias"), start)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, 2, H/16, W/16) for cats and dogs, and log distances (B, 4, H/16, W/16), in strides, to the left,
        upper, right and lower side, from maps (B, 40, H/8, W/8), (B, 112, H/16, W/16), (B, 320, H/32, W/32)."""
        fine, middle, coarse = maps
        wide = nn.functional.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        hidden = self.fine(fine) + self.middle(middle) + wide  # (B, 96, H/16, W/16)
        for mix in self.mix:
            hidden = mix(hidden)
        hidden = self.norm(hidden)
        return self.scores(hidden), self.sides(hidden)


class _Mix(nn.Module):
    """A residual block: normalise, convolve 5x5 in each channel, mix channels at each position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.look = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = nn.functional.relu(self.widen(self.look(self.norm(hidden))))
        return hidden + self.narrow(inner)


def feature_maps(backbone: Any, pixel_values: Tensor) -> list[Tensor]:
    """The maps of EfficientNet-Lite0 that the network reads, from normalised pictures (B, 3, H, W), sides whole 32s."""
    hidden = backbone._swish(backbone._bn0(backbone._conv_stem(pixel_values)))
    maps = []
    for number, block in enumerate(backbone._blocks):
        hidden = block(hidden)
        if number in TAPS:
            maps.append(hidden)
    return maps


def box_sides(sides: Tensor) -> Tensor:
    """Boxes (B, 4, h, w) as x0, y0, x1, y1 in px of the network's input, from its log distances (B, 4, h, w)."""
    height, width = sides.shape[2:]
    places_x = (torch.arange(width, device=sides.device) + 0.5) * STRIDE_PX
    places_y = (torch.arange(height, device=sides.device) + 0.5) * STRIDE_PX
    left, top, right, bottom = (sides.float().clamp(max=4.0).exp() * STRIDE_PX).unbind(1)
    x, y = places_x[None, None, :], places_y[None, :, None]
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)
