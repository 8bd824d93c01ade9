"""Prompt fidelity: does a picture show what its prompt asks for?"""

from __future__ import annotations

import re

from torch import Tensor


def class_text(text: str, identifier: str, class_noun: str) -> str:
    """The prompt as anyone would read it: identifier and class noun become the class noun, an identifier alone too.

    No text model knows the identifier, so it is taken out before a picture is compared with its prompt.
    """
    word = rf"(?<!\w){re.escape(identifier)}(?!\w)"
    noun = rf"\s+{re.escape(class_noun)}(?!\w)"
    return re.sub(rf"{word}(?:{noun})?", lambda _: class_noun, text)


def names_word(text: str, words: str) -> bool:
    """Whether `words` occur in `text` as they are, not as parts of others; upper and lower case are one."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def prompt_fidelity(pictures: Tensor, texts: Tensor) -> Tensor:
    """Cosine of each picture (N, D) to its own text (N, D), both of unit norm: (N,) (CLIP-T of DreamBench)."""
    return (pictures * texts).sum(1)
