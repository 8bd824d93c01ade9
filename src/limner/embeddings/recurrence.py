"""Of several heads in one picture, the subject's: the one that recurs in the subject's other pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limner.embeddings.head_finder import FoundHead

UNRELATED = 0.2  # cosine of two heads' vectors that says nothing
ALONE = 0.15  # what a head counts that no other picture shows; one that all others show counts 1


def choose_heads(pictures: Sequence[Sequence[FoundHead]]) -> list[int]:
    """For each picture's heads, best first, the place of the subject's; 0 also for a picture without a head."""
    return [
        choose_head(heads, [other for index, other in enumerate(pictures) if index != place])
        for place, heads in enumerate(pictures)
    ]


def choose_head(heads: Sequence[FoundHead], others: Sequence[Sequence[FoundHead]]) -> int:
    """The place of the head with the most weight: its score times how much it recurs in the `others`, by kind and
    vector."""
    if len(heads) < 2:
        return 0
    weights = [head.score * (ALONE + _recurrence(head, others)) for head in heads]
    return weights.index(max(weights))


def _recurrence(head: FoundHead, others: Sequence[Sequence[FoundHead]]) -> float:
    """How much the others show the same head: the mean over them of their most alike one's score, 0 to 1."""
    if not others:
        return 0.0
    return float(np.mean([max((_alike(head, other) for other in heads), default=0.0) for heads in others]))


def _alike(head: FoundHead, other: FoundHead) -> float:
    if head.kind != other.kind:
        return 0.0
    return other.score * max(0.0, float(head.vector @ other.vector) - UNRELATED) / (1 - UNRELATED)
