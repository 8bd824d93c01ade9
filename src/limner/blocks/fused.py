"""Puts the faster forms of blocks in the place of diffusers' and transformers' own, for the time of a block of code.

diffusers' networks keep their outer way; where a GPU runs Triton, their residual, transformer and last blocks compute
the same with kernels that fuse what stands together, without leaving channels-last order; so do the text encoder and
its layers. A block of another kind, or with a setting that Stable Diffusion 1.5 does not have, is left as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from limner.blocks.forms import (
    convolution_layer,
    last_norm,
    residual_block,
    transformer,
    transformer_block,
    upsampling,
)
from limner.blocks.text_forms import PROJECTIONS, is_plain_text_encoder, is_plain_text_layer, text_encoder, text_layer
from limner.kernels.available import has_triton
from limner.kernels.linear import joint_view

SAME_INPUT = {"Attention": ("to_q", "to_k", "to_v"), "CLIPAttention": PROJECTIONS}  # layers of an attention


@contextlib.contextmanager
def fast(device: torch.device, *networks: nn.Module | None, everywhere: bool = False) -> Iterator[None]:
    """A block in which networks that lie on a GPU, or `everywhere`, compute channels-last and fused; else as they are.

    They keep their values; the layout of their weights in memory stays changed.
    """
    if device.type != "cuda" and not everywhere:
        yield
        return
    there: list[Any] = [network for network in networks if network is not None]
    for network in there:
        network.to(memory_format=torch.channels_last)
    with fused(*there, everywhere=everywhere):
        yield


@contextlib.contextmanager
def fused(*networks: nn.Module, everywhere: bool = False) -> Iterator[None]:
    """A block in which the networks compute with fused blocks where their device gains by it.

    Networks are a UNet, a ControlNet, a VAE, a text encoder (which then gives no pooled output).

    `everywhere` takes the forms on any device: in plain torch, where there is no Triton.
    """
    changed: list[nn.Module] = []
    try:
        for network in networks:
            if everywhere or has_triton(next(network.parameters())):
                _lay_together(network)
                for module, form in _forms(network):
                    module.forward = MethodType(form, module)
                    changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _forms(network: nn.Module) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
    for module in network.modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D" and _is_plain_residual(module):
            yield module, residual_block
        elif kind == "BasicTransformerBlock" and _is_plain_transformer_block(module):
            yield module, transformer_block
        elif kind == "Transformer2DModel" and _is_plain_transformer(module):
            yield module, transformer
        elif kind == "Upsample2D" and _is_plain_upsampling(module):
            yield module, upsampling
        elif _is_plain_convolution(module):
            yield module, convolution_layer
        elif kind == "CLIPEncoderLayer" and is_plain_text_layer(module):
            yield module, text_layer
        elif kind == "CLIPTextModel" and module is network and is_plain_text_encoder(module):
            yield module, text_encoder
        elif isinstance(getattr(module, "conv_act", None), nn.SiLU) and _is_norm(
            getattr(module, "conv_norm_out", None)
        ):
            yield module.conv_norm_out, last_norm  # type: ignore[misc]
            yield module.conv_act, _as_it_is  # type: ignore[misc]


def _lay_together(network: nn.Module) -> None:
    """Move what an attention's queries, keys and values compute with below one another, where they read one input."""
    for attention in network.modules():
        names = SAME_INPUT.get(type(attention).__name__, ())
        layers = [getattr(getattr(attention, name), "original", getattr(attention, name)) for name in names]
        plain = [layer for layer in layers if type(layer) is nn.Linear]
        alike = [layer for layer in plain if layer.weight.shape == plain[-1].weight.shape]
        _move_below([layer.weight for layer in alike])
        _move_below([layer.bias for layer in alike if layer.bias is not None])


def _move_below(parameters: Sequence[Tensor]) -> None:
    """Into one storage, in their order; those that learn lie where the engine has put them."""
    learning = any(parameter.requires_grad for parameter in parameters)
    if len(parameters) > 1 and not learning and joint_view(parameters) is None:
        joint = torch.cat([parameter.detach() for parameter in parameters])
        for parameter, part in zip(parameters, joint.split([len(each) for each in parameters]), strict=True):
            parameter.data = part


def _as_it_is(module: nn.Module, x: Tensor) -> Tensor:
    return x


def _is_norm(module: Any) -> bool:
    return isinstance(module, nn.GroupNorm) and module.affine


def _is_plain_convolution(layer: Any) -> bool:
    return type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"


def _is_plain_residual(block: Any) -> bool:
    resampled = block.upsample is not None or block.downsample is not None
    untimed = block.time_embedding_norm == "group" and block.time_emb_proj is None  # as in a VAE's decoder
    usual = (block.time_embedding_norm == "default" or untimed) and block.output_scale_factor == 1
    active_dropout = block.training and block.dropout.p > 0
    known = _is_norm(block.norm1) and _is_norm(block.norm2) and isinstance(block.nonlinearity, nn.SiLU)
    return usual and known and not (resampled or block.skip_time_act or active_dropout)


def _is_plain_upsampling(block: Any) -> bool:
    usual = block.use_conv and block.interpolate and not block.use_conv_transpose
    return usual and block.name == "conv" and block.norm is None


def _is_plain_transformer(block: Any) -> bool:
    return block.is_input_continuous and _is_norm(block.norm) and not block.training


def _is_plain_transformer_block(block: Any) -> bool:
    norms = [block.norm1, block.norm2, block.norm3]
    usual = block.norm_type == "layer_norm" and block.pos_embed is None and block._chunk_size is None
    known = all(isinstance(norm, nn.LayerNorm) and norm.elementwise_affine for norm in norms)
    whole = block.attn2 is not None and not block.only_cross_attention and type(block.ff.net[0]).__name__ == "GEGLU"
    return usual and known and whole and all(_is_plain_attention(attention) for attention in (block.attn1, block.attn2))


def _is_plain_attention(attention: Any) -> bool:
    absent = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj", "add_q_proj")
    nothing_more = all(getattr(attention, name, None) is None for name in absent)
    plain = not attention.residual_connection and attention.rescale_output_factor == 1
    return nothing_more and plain and not attention.training
