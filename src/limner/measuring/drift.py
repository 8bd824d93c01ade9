"""What happened to all that is not the subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.measuring.prompt_fidelity import names_word
from limner.measuring.scores import BASE_VARIANT, Picture


def drift(renders: Tensor, of_base: Tensor) -> Tensor:
    """1 - cosine of each render (N, D) and the base's render of the same prompt and seed (N, D): (N,)."""
    return 1 - (renders * of_base).sum(1)


def diversity(pictures: Tensor) -> Tensor:
    """Mean of 1 - cosine of each picture (N, D), at least two, to all others: (N,); their mean is that over pairs.

    As DIV of DreamBooth (Ruiz et al. 2023, section 4.4), in an embedding where that has LPIPS.
    """
    similarity = pictures @ pictures.T  # (N, N)
    return 1 - (similarity.sum(1) - similarity.diagonal()) / (len(pictures) - 1)


@dataclass(frozen=True)
class PromptKinds:
    """The prompts, by name, that leave the subject out: those that ask for its class, and unrelated ones."""

    of_class: list[str]
    unrelated: list[str]

    @property
    def without_subject(self) -> set[str]:
        """Both."""
        return {*self.of_class, *self.unrelated}


def prompt_kinds(pictures: Sequence[Picture], identifier: str, class_noun: str) -> PromptKinds:
    """Sort the prompts of a grid by what the variants were asked for; the base never hears of the subject."""
    cells = [p.cell for p in pictures if p.cell.reference is None and p.cell.variant != BASE_VARIANT and p.cell.text]
    texts = {cell.prompt: cell.text for cell in cells}
    without = {name: text for name, text in texts.items() if not names_word(text, identifier)}
    of_class = [name for name, text in without.items() if names_word(text, class_noun)]
    return PromptKinds(of_class, [name for name in without if name not in of_class])


def diversities(pictures: Sequence[Picture], vectors: Tensor) -> dict[int, float]:
    """By index in `pictures`: the diversity of each among the same variant's pictures of the same prompt.

    Pictures that stand alone have none.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, picture in enumerate(pictures):
        groups.setdefault((picture.cell.variant, picture.cell.prompt), []).append(index)
    by_index: dict[int, float] = {}
    for indices in groups.values():
        if len(indices) > 1:
            by_index |= dict(zip(indices, diversity(vectors[torch.tensor(indices)]).tolist(), strict=True))
    return dict(sorted(by_index.items()))
