"""The prompts that examples are trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.base import Base, tokenize
from limner.base.prompts import encode_ids
from limner.config import Subject
from limner.errors import PromptError
from limner.progress import SILENT, Progress


def prompt_ids(
    base: Base, subject: Subject, prompts: Sequence[str], progress: Progress = SILENT, *, of_class: bool = False
) -> Tensor:
    """Token ids (R, 77) of the instance prompts and, `of_class`, the class prompt as the last, placeholders filled.

    Says so when a prompt is cut. Raises PromptError when an instance prompt loses its subject by that.
    """
    tokens = tokenize(base.tokenizer, prompts)
    for prompt, cut in zip(prompts, tokens.cut, strict=True):
        if cut:
            progress.notice(f'the prompt "{prompt[:60]}…" is {cut} tokens too long for the text encoder and was cut')
    for index in range(len(prompts) - of_class):
        if tokens.cut[index]:
            _require_subject(base.tokenizer, subject, prompts[index], tokens.ids[index].tolist())
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


class PromptEmbeds:
    """Embeddings of R prompts: a frozen text encoder's, computed once; a trained one's, whenever they are asked for.

    R is 1 or 2, the instance and the class prompt, or more where photos have prompts of their own.
    """

    def __init__(self, base: Base, ids: Tensor, *, variants: int, trained: bool) -> None:
        """`ids` (R, 77) are token ids; a trained encoder holds the low-rank updates of V `variants`."""
        self._base, self._ids, self._variants = base, ids.to(base.device), variants
        self._embeds = None
        if not trained:
            with torch.no_grad():
                self._embeds = encode_ids(base.text_encoder, self._ids, base.clip_skip)[None]
        self._stacked = self._ids.repeat(variants, 1)  # variant by variant, as its low-rank updates want their rows

    def __len__(self) -> int:
        return len(self._ids)

    def __call__(self) -> Tensor:
        """All of them: (V, R, 77, C), of a frozen encoder (1, R, 77, C)."""
        if self._embeds is not None:
            return self._embeds
        return self._encoded(self._stacked).unflatten(0, (self._variants, -1))

    def drawn(self, rows: Tensor) -> Tensor:
        """Those that the `rows` (V, N) name: (V·N, 77, C). A trained encoder reads no other."""
        if self._embeds is not None:
            return self._embeds[0].index_select(0, rows.flatten())
        return self._encoded(self._ids.index_select(0, rows.flatten()))

    def _encoded(self, ids: Tensor) -> Tensor:
        return encode_ids(self._base.text_encoder, ids, self._base.clip_skip)
