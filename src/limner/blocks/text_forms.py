"""Faster forms of transformers' CLIP text encoder, whole and layer by layer.

Each replaces a module's `forward` and uses the module's layers. For anything but causal attention over complete
prompts (a padding mask, positions, hidden states, attentions), it calls transformers' own forward.
Shapes: B prompts of T tokens (B, T, C). A layer may have low-rank updates: it is called as a whole.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from limner.blocks.layers import add_and_normalise, linear, linear_jointly, normalised
from limner.kernels.attention import attention as scaled_dot_product_attention
from limner.kernels.quick_gelu import quick_gelu

PROJECTIONS = (
    "k_proj",
    "v_proj",
    "q_proj",
)  # in the order of an attention's parameters, as they are stored in training


def text_encoder(
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    **options: Any,
) -> Any:
    """`CLIPTextModel` (Radford et al. 2021): each sum at a layer's end in one kernel with the norm after it.

    Without the pooled output, which Stable Diffusion does not read.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    positions = model.embeddings.position_embedding.weight  # (77, C)
    unusual = attention_mask is not None or position_ids is not None or options not in ({}, {"return_dict": True})
    if unusual or input_ids is None or input_ids.shape[-1] > len(positions):
        return type(model).forward(model, input_ids, attention_mask, position_ids, **options)
    words = model.embeddings.token_embedding(input_ids.view(-1, input_ids.shape[-1]))
    layers = model.encoder.layers
    hidden, tokens = add_and_normalise(words, positions[: words.shape[1]].expand_as(words), layers[0].layer_norm1)
    for layer, norm in zip(layers, [*(layer.layer_norm1 for layer in layers[1:]), model.final_layer_norm], strict=True):
        hidden, tokens = add_and_normalise(*_before_last_sum(layer, hidden, tokens), norm)
    return BaseModelOutputWithPooling(last_hidden_state=tokens)


def text_layer(layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Tensor:
    """`CLIPEncoderLayer`: causal self-attention, then the feed-forward layer, each added."""
    causal = attention_mask is None and options.get("is_causal", False)
    if not causal or options.get("output_attentions", False):
        return type(layer).forward(layer, hidden_states, attention_mask, **options)
    tokens = normalised(hidden_states, layer.layer_norm1)
    hidden_states, output = _before_last_sum(layer, hidden_states, tokens)
    return hidden_states + output


def _before_last_sum(layer: Any, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Both summands of a layer's result, from its input and that normalised.

    The residual comes first in every sum: under autocast it keeps its full precision.
    """
    attention, feed_forward = layer.self_attn, layer.mlp
    key, value, query = linear_jointly([getattr(attention, name) for name in PROJECTIONS], tokens)
    attended = scaled_dot_product_attention(query, key, value, attention.num_heads, causal=True)
    output = linear(attention.out_proj, attended)
    hidden, tokens = add_and_normalise(hidden, output, layer.layer_norm2)
    return hidden, linear(feed_forward.fc2, quick_gelu(linear(feed_forward.fc1, tokens)))


def is_plain_text_encoder(model: Any) -> bool:
    """Whether a `CLIPTextModel` computes as Stable Diffusion's does, so that `text_encoder` can replace it."""
    config = model.config
    asked = config.output_hidden_states or config.output_attentions or not config.return_dict
    embeddings = (model.embeddings.token_embedding, model.embeddings.position_embedding)
    usual = not asked and not model.training and _is_norm(model.final_layer_norm)
    return usual and all(type(each) is nn.Embedding for each in embeddings) and _all_plain(model.encoder.layers)


def is_plain_text_layer(layer: Any) -> bool:
    """Whether a `CLIPEncoderLayer` can be replaced by `text_layer`; one in training mode cannot."""
    attention = layer.self_attn
    plain_mlp = type(layer.mlp.activation_fn).__name__ == "QuickGELUActivation" and not layer.training
    usual = attention.config._attn_implementation == "sdpa" and attention.scale == attention.head_dim**-0.5
    return plain_mlp and usual and _is_norm(layer.layer_norm1) and _is_norm(layer.layer_norm2)


def _all_plain(layers: Any) -> bool:
    return len(layers) > 0 and all(map(is_plain_text_layer, layers))


def _is_norm(norm: Any) -> bool:
    return type(norm) is nn.LayerNorm and norm.elementwise_affine
