"""Functions that the faster forms share: layers alone and jointly, norms alone and with the sum before them.

A layer may have low-rank updates: then it is called as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.kernels.available import has_triton
from limner.kernels.half_products import half_linear, half_products
from limner.kernels.layer_norm import add_layer_norm, layer_norm
from limner.kernels.linear import joint_bias, joint_linear, joint_view


def linear_jointly(layers: Sequence[nn.Module], x: Tensor) -> Sequence[Tensor]:
    """Outputs (…, D) of layers that read the same input: from one product if their weights are adjacent in memory."""
    joint = None
    if all(type(layer) is nn.Linear for layer in layers):
        joint = _joint_product(layers, x)  # type: ignore[arg-type]
    elif all(hasattr(layer, "jointly") for layer in layers):
        joint = layers[0].jointly(layers, x)  # type: ignore[operator]
    return [linear(layer, x) for layer in layers] if joint is None else joint.chunk(len(layers), -1)


def _joint_product(layers: Sequence[nn.Linear], x: Tensor) -> Tensor | None:
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers if layer.bias is not None]
    weight = joint_view(weights)
    if weight is None or len(biases) not in (0, len(layers)):
        return None
    if (half := half_products(x)) is not None:
        return half_linear(half, x, weights, biases, inner=True)
    if any(each.requires_grad for each in weights):
        return joint_linear(x, weights, biases)
    return functional.linear(x, weight, joint_bias(biases))


def linear(layer: nn.Module, x: Tensor, *, inner: bool = False) -> Tensor:
    """A layer's output; when training on a GPU, the gradient of its bias comes from a separate kernel.

    `inner` is for an output that goes into the next product without being added to anything: see `half_products`.
    """
    if (half := half_products(x)) is not None:
        if type(layer) is nn.Linear:
            return half_linear(half, x, [layer.weight], [] if layer.bias is None else [layer.bias], inner=inner)
        return layer(x) if inner else layer(x).to(torch.float32)
    if type(layer) is nn.Linear and layer.weight.requires_grad and has_triton(x):
        return joint_linear(x, [layer.weight], [] if layer.bias is None else [layer.bias])
    return layer(x)


def add_and_normalise(x: Tensor, residual: Tensor, norm: nn.LayerNorm, **later: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum of both (…, C), in x's precision, and that normalised; `later` as in `add_layer_norm`."""
    return add_layer_norm(x, residual, norm.weight, norm.bias, norm.eps, **later)


def normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A layer norm alone."""
    return layer_norm(x, norm.weight, norm.bias, norm.eps)
