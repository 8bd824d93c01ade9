"""Replaces blocks of diffusers and transformers by faster forms, for the duration of a block of code.

The networks themselves are unchanged; where a GPU runs Triton, their residual, transformer and last blocks compute the
same with fused kernels, in channels-last order throughout; so do the text encoder and its layers. A block with a
setting that Stable Diffusion 1.5 does not have keeps its plain form, with a warning, once for each kind of block.
"""

from __future__ import annotations

import contextlib
import warnings
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
    """A block in which networks on a GPU, or `everywhere`, compute channels-last and fused; others compute as usual.

    Their values do not change; the memory layout of their weights remains channels-last.
    """
    if device.type != "cuda" and not everywhere:
        yield
        return
    present: list[Any] = [network for network in networks if network is not None]
    for network in present:
        network.to(memory_format=torch.channels_last)
    with fused(*present, everywhere=everywhere):
        yield


@contextlib.contextmanager
def fused(*networks: nn.Module, everywhere: bool = False) -> Iterator[None]:
    """A block in which the networks compute with fused blocks, if their device runs Triton.

    Networks are a UNet, a ControlNet, a VAE, a text encoder (which then gives no pooled output).

    `everywhere` uses the forms on any device: in plain torch, where there is no Triton.
    """
    changed: list[nn.Module] = []
    try:
        for network in networks:
            if everywhere or has_triton(next(network.parameters())):
                _join_projections(network)
                _warn_of_plain_blocks(network)
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
        is_plain, form = BLOCK_FORMS.get(kind, (None, None))
        if is_plain is not None and form is not None and is_plain(module):
            yield module, form
        elif _is_plain_convolution(module):
            yield module, convolution_layer
        elif kind == "CLIPTextModel" and module is network and is_plain_text_encoder(module):
            yield module, text_encoder
        elif isinstance(getattr(module, "conv_act", None), nn.SiLU) and _is_norm(
            getattr(module, "conv_norm_out", None)
        ):
            yield module.conv_norm_out, last_norm  # type: ignore[misc]
            yield module.conv_act, _identity  # type: ignore[misc]


def _warn_of_plain_blocks(network: nn.Module) -> None:
    """Warn, once for each kind, of blocks that keep their slower plain form; in training mode they are meant to."""
    for module in network.modules():
        kind = type(module).__name__
        if kind in BLOCK_FORMS and not module.training and not BLOCK_FORMS[kind][0](module):
            message = f"a {kind} differs from Stable Diffusion 1.5's, so it is computed in its plain form, slower"
            warnings.warn(message, RuntimeWarning, stacklevel=1)


def _join_projections(network: nn.Module) -> None:
    """Move the weights of an attention's queries, keys and values together in memory, if they read one input."""
    for attention in network.modules():
        names = SAME_INPUT.get(type(attention).__name__, ())
        layers = [getattr(getattr(attention, name), "original", getattr(attention, name)) for name in names]
        plain = [layer for layer in layers if type(layer) is nn.Linear]
        joinable = [layer for layer in plain if layer.weight.shape == plain[-1].weight.shape]
        _move_together([layer.weight for layer in joinable])
        _move_together([layer.bias for layer in joinable if layer.bias is not None])


def _move_together(parameters: Sequence[Tensor]) -> None:
    """Move parameters into one storage, in their order; trained ones stay where the engine has put them."""
    learning = any(parameter.requires_grad for parameter in parameters)
    if len(parameters) > 1 and not learning and joint_view(parameters) is None:
        joint = torch.cat([parameter.detach() for parameter in parameters])
        for parameter, part in zip(parameters, joint.split([len(each) for each in parameters]), strict=True):
            parameter.data = part


def _identity(module: nn.Module, x: Tensor) -> Tensor:
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
    plain_layers = _is_norm(block.norm1) and _is_norm(block.norm2) and isinstance(block.nonlinearity, nn.SiLU)
    return usual and plain_layers and not (resampled or block.skip_time_act or active_dropout)


def _is_plain_upsampling(block: Any) -> bool:
    usual = block.use_conv and block.interpolate and not block.use_conv_transpose
    return usual and block.name == "conv" and block.norm is None


def _is_plain_transformer(block: Any) -> bool:
    return block.is_input_continuous and _is_norm(block.norm) and not block.training


def _is_plain_transformer_block(block: Any) -> bool:
    norms = [block.norm1, block.norm2, block.norm3]
    usual = block.norm_type == "layer_norm" and block.pos_embed is None and block._chunk_size is None
    plain_norms = all(isinstance(norm, nn.LayerNorm) and norm.elementwise_affine for norm in norms)
    complete = block.attn2 is not None and not block.only_cross_attention and type(block.ff.net[0]).__name__ == "GEGLU"
    return (
        usual
        and plain_norms
        and complete
        and all(_is_plain_attention(attention) for attention in (block.attn1, block.attn2))
    )


def _is_plain_attention(attention: Any) -> bool:
    absent = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj", "add_q_proj")
    nothing_more = all(getattr(attention, name, None) is None for name in absent)
    plain = not attention.residual_connection and attention.rescale_output_factor == 1
    return nothing_more and plain and not attention.training


# By class name: whether a block can have the faster form, and that form.
BLOCK_FORMS: dict[str, tuple[Callable[[Any], bool], Callable[..., Any]]] = {
    "ResnetBlock2D": (_is_plain_residual, residual_block),
    "BasicTransformerBlock": (_is_plain_transformer_block, transformer_block),
    "Transformer2DModel": (_is_plain_transformer, transformer),
    "Upsample2D": (_is_plain_upsampling, upsampling),
    "CLIPEncoderLayer": (is_plain_text_layer, text_layer),
}
