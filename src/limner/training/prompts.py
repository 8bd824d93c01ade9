"""The prompts that examples are trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limner.base import Base, tokenize
from limner.base.prompts import encode_ids
from limner.config import Subject
from limner.errors import PromptError
from limner.progress import SILENT, Progress


def prompt_ids(base: Base, subject: Subject, prompts: Sequence[str], progress: Progress = SILENT) -> Tensor:
    """Token ids (1 or 2, 77) of the instance prompt and, if there is one, the class prompt, placeholders filled.

    Says so when a prompt is cut. Raises PromptError when the instance prompt loses its subject by that.
    """
    tokens = tokenize(base.tokenizer, prompts)
    for prompt, cut in zip(prompts, tokens.cut, strict=True):
        if cut:
            progress.notice(f'the prompt "{prompt[:60]}…" is {cut} tokens too long for the text encoder and was cut')
    if tokens.cut[0]:
        _require_subject(base.tokenizer, subject, prompts[0], tokens.ids[0].tolist())
    return tokens.ids


def _require_subject(tokenizer, subject: Subject, prompt: str, kept: list[int]) -> None:
    whole = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    for words in (subject.phrase, subject.identifier):
        ids = tokenizer(words, add_special_tokens=False).input_ids
        if _contains(whole, ids):
            if not _contains(kept, ids):
                raise PromptError(
                    f'the instance prompt "{prompt[:60]}…" loses its subject "{words}" when it is cut to '
                    f"{tokenizer.model_max_length} tokens; shorten it or name the subject earlier"
                )
            return


def _contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[start : start + len(part)] == part for start in range(len(ids) - len(part) + 1))


def embedder(base: Base, ids: Tensor, *, variants: int, trained: bool) -> Callable[[], Tensor]:
    """Prompt embeddings (V, 1 or 2, 77, C) of V variants; of a frozen encoder (1, 1 or 2, 77, C), encoded once."""
    ids = ids.to(base.device)
    if trained:
        stacked = ids.repeat(variants, 1)  # variant by variant, as its low-rank updates want their rows
        return lambda: encode_ids(base.text_encoder, stacked, base.clip_skip).unflatten(0, (variants, -1))
    with torch.no_grad():
        embeds = encode_ids(base.text_encoder, ids, base.clip_skip)[None]
    return lambda: embeds
