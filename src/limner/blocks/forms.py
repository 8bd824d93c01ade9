"""Faster forms of diffusers' blocks. Each replaces a block's `forward` and uses the block's layers.

Shapes: pictures (B, C, H, W) in channels-last order, whose tokens (B, H·W, C) are the same numbers in the same order.
A layer may have low-rank updates: then it is called as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.blocks.layers import add_and_normalise, linear, linear_jointly, normalised
from limner.kernels.attention import attention as scaled_dot_product_attention
from limner.kernels.available import has_triton
from limner.kernels.convolution import convolution
from limner.kernels.gelu_gate import gelu_gate
from limner.kernels.group_norm import group_norm
from limner.kernels.half_products import half_convolution, half_linear, half_products
from limner.kernels.linear import joint_linear
from limner.kernels.nearest_upsampling import upsample_nearest
from limner.kernels.residual import add_bias

SLICE_BYTES = 256 << 20  # most bytes of the feed-forward layer's inner rows: larger slices are no faster


def residual_block(block: Any, input_tensor: Tensor, temb: Tensor | None, *unused: Any, **none: Any) -> Tensor:
    """`ResnetBlock2D` (He et al. 2016; t is the projected time embedding): x + conv(f(norm(conv(f(norm(x))) + t)))."""
    hidden = _normalised(block.norm1, input_tensor, silu=True)
    hidden, bias = _convolved(block.conv1, hidden, inner=True)
    shift = _shift(block, temb, bias, len(hidden))
    hidden = _normalised(block.norm2, hidden, silu=True, shift=shift)
    hidden, bias = _convolved(block.conv2, hidden)
    residual, shortcut_bias = _shortcut(block.conv_shortcut, input_tensor)
    return add_bias(hidden, _sum(bias, shortcut_bias), residual)


def convolution_layer(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution outside a block: resampling, a network's first or last."""
    return add_bias(*_convolved(layer, x))


def upsampling(block: Any, hidden_states: Tensor, output_size: Any = None, *unused: Any, **none: Any) -> Tensor:
    """`Upsample2D`: every pixel four times, and a convolution."""
    if output_size is not None:
        return block.conv(functional.interpolate(hidden_states, size=output_size, mode="nearest"))
    return block.conv(upsample_nearest(hidden_states))


def last_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """A network's last group norm, with the SiLU after it."""
    return _normalised(norm, x, silu=True)


def transformer(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    return_dict: bool = True,
    **unused: Any,
) -> Any:
    """`Transformer2DModel` over pictures: norm, tokens, transformer blocks, and the picture added."""
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    height, width = hidden_states.shape[2:]
    tokens = _tokens(_normalised(block.norm, hidden_states, silu=False))
    tokens = _pointwise(block.proj_in, tokens, height, width)
    for each in block.transformer_blocks:
        if torch.is_grad_enabled() and block.gradient_checkpointing:
            tokens = block._gradient_checkpointing_func(each, tokens, None, encoder_hidden_states)
        else:
            tokens = each(tokens, encoder_hidden_states=encoder_hidden_states)
    tokens = _pointwise(block.proj_out, tokens, height, width)
    picture = _picture(tokens, height, width) + hidden_states
    return Transformer2DModelOutput(sample=picture) if return_dict else (picture,)


def transformer_block(
    block: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    *unused: Any,
    **none: Any,
) -> Tensor:
    """`BasicTransformerBlock`: self-attention, attention to the prompt, and the feed-forward layer, each added."""
    tokens = normalised(hidden_states, block.norm1)
    attended = _attention(block.attn1, tokens, tokens)
    hidden_states, tokens = add_and_normalise(attended, hidden_states, block.norm2)
    context = tokens if encoder_hidden_states is None else encoder_hidden_states
    attended = _attention(block.attn2, tokens, context)
    if not _can_add_in_place(block.ff, tokens):
        hidden_states, tokens = add_and_normalise(attended, hidden_states, block.norm3)
        return _feed_forward(block.ff, tokens) + hidden_states
    hidden_states, tokens = add_and_normalise(attended, hidden_states, block.norm3, later=block.ff.net[2].bias)
    return _add_feed_forward(block.ff, tokens, hidden_states)


def _feed_forward(layer: Any, tokens: Tensor) -> Tensor:
    """The feed-forward layer, 8 times as wide inside."""
    return linear(layer.net[2], gelu_gate(linear(layer.net[0].proj, tokens, inner=True)))


def _can_add_in_place(layer: Any, tokens: Tensor) -> bool:
    """Whether the feed-forward layer may add to a sum in place: gradients would need the old value."""
    plain = type(layer.net[0].proj) is nn.Linear and type(layer.net[2]) is nn.Linear
    return plain and has_triton(tokens) and not torch.is_grad_enabled()


def _add_feed_forward(layer: Any, tokens: Tensor, total: Tensor) -> Tensor:
    """Add the feed-forward layer, without its last bias, to the total, in equal slices to keep inner rows few."""
    gate, weight = layer.net[0].proj, layer.net[2].weight
    tokens, rows = tokens.flatten(0, 1), total.flatten(0, 1)
    slices = math.ceil(len(tokens) * tokens.element_size() * len(gate.weight) / SLICE_BYTES)
    for part, target in zip(tokens.tensor_split(slices), rows.tensor_split(slices), strict=True):
        target.addmm_(gelu_gate(gate(part)), weight.mT)
    return total


def _attention(attention: Any, tokens: Tensor, context: Tensor) -> Tensor:
    """Attention of tokens (B, T, C) to a context (B, S, C')."""
    if context is tokens:
        query, key, value = linear_jointly([attention.to_q, attention.to_k, attention.to_v], tokens)
    else:
        query = linear(attention.to_q, tokens, inner=True)
        key, value = linear_jointly([attention.to_k, attention.to_v], context)
    return linear(attention.to_out[0], scaled_dot_product_attention(query, key, value, attention.heads))


def _normalised(norm: nn.GroupNorm, x: Tensor, *, silu: bool, shift: Tensor | None = None) -> Tensor:
    return group_norm(x, norm.weight, norm.bias, norm.num_groups, norm.eps, silu=silu, shift=shift)


def _convolved(layer: nn.Module, x: Tensor, *, inner: bool = False) -> tuple[Tensor, Tensor | None]:
    """A convolution's output without its bias, which the next operation can add, and the bias.

    `inner` is for an output that is normalised next: see `half_products`.
    """
    if type(layer) is nn.Conv2d:
        if (half := half_products(x)) is not None:
            geometry = layer.stride, layer.padding, layer.dilation
            return half_convolution(half, x, layer.weight, layer.bias, *geometry, inner=inner), None
        return convolution(layer, x), layer.bias
    return layer(x), None


def _shift(block: Any, temb: Tensor | None, bias: Tensor | None, batch: int) -> Tensor | None:
    """The shift of every channel (B, C): the time embedding's projection and the convolution's bias."""
    if temb is None or block.time_emb_proj is None:
        return None if bias is None else bias.expand(batch, -1).contiguous()
    share = linear(block.time_emb_proj, block.nonlinearity(temb))
    return share if bias is None else share + bias


def _shortcut(layer: nn.Module | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The shortcut that is added to a residual block's output, without its bias, and the bias."""
    if layer is None:
        return x, None
    if type(layer) is not nn.Conv2d or layer.kernel_size != (1, 1):
        return layer(x), None
    return _picture(_product(layer.weight, None, _tokens(x)), *x.shape[2:]), layer.bias


def _sum(bias: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if bias is None else bias if other is None else bias + other


def _tokens(x: Tensor) -> Tensor:
    """(B, H·W, C) of a picture: no copy where it is in channels-last order."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _picture(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, C, H, W) in channels-last order of tokens (B, H·W, C): the same numbers."""
    return tokens.view(len(tokens), height, width, -1).permute(0, 3, 1, 2)


def _product(weight: Tensor, bias: Tensor | None, tokens: Tensor) -> Tensor:
    """Tokens (B, T, D) by the weight (D, C, 1, 1) of a 1x1 convolution."""
    if (half := half_products(tokens)) is not None:
        return half_linear(half, tokens, [weight], [] if bias is None else [bias])
    if weight.requires_grad and has_triton(tokens):
        return joint_linear(tokens, [weight], [] if bias is None else [bias])
    return functional.linear(tokens, weight.flatten(1), bias)


def _pointwise(layer: nn.Module, tokens: Tensor, height: int, width: int) -> Tensor:
    """A 1x1 convolution or a linear layer over tokens (B, H·W, C)."""
    if type(layer) is nn.Conv2d:
        return _product(layer.weight, layer.bias, tokens)
    if isinstance(layer, nn.Linear) or isinstance(getattr(layer, "original", None), nn.Linear):
        return layer(tokens) if half_products(tokens) is None else linear(layer, tokens)
    return _tokens(layer(_picture(tokens, height, width)))
