"""Prompts to tokens to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptTokens:
    """Token ids of some prompts and how many tokens were cut from each to fit the text encoder."""

    ids: Tensor  # (B, 77)
    cut: list[int]


def tokenize(tokenizer, prompts: Sequence[str]) -> PromptTokens:
    """Tokenize to the text encoder's length (77): shorter prompts are padded, longer ones cut."""
    length = tokenizer.model_max_length
    uncut_ids = tokenizer(list(prompts), truncation=False, verbose=False).input_ids
    ids = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return PromptTokens(ids, [max(0, len(row) - length) for row in uncut_ids])


def encode_ids(text_encoder, ids: Tensor, clip_skip: int = 0) -> Tensor:
    """Prompt embeddings (B, 77, C) of token ids (B, 77), as diffusers' pipeline computes them.

    With `clip_skip` the last layers are skipped and the final layer norm is applied to the rest.
    """
    if clip_skip == 0:
        return text_encoder(ids, return_dict=True).last_hidden_state
    hidden = text_encoder(ids, output_hidden_states=True, return_dict=True).hidden_states
    inner = getattr(text_encoder, "text_model", text_encoder)  # transformers below 5.6 nests the model
    return inner.final_layer_norm(hidden[-(clip_skip + 1)])


@torch.no_grad()
def encode_prompts(tokenizer, text_encoder, prompts: Sequence[str], clip_skip: int = 0) -> Tensor:
    """Prompt embeddings (B, 77, C) in the text encoder's device and precision."""
    device = next(text_encoder.parameters()).device
    return encode_ids(text_encoder, tokenize(tokenizer, prompts).ids.to(device), clip_skip)
