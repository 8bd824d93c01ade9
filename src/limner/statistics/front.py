"""Pareto's front of two scores of which more is better."""

from __future__ import annotations

from collections.abc import Mapping

Means = tuple[float, float]


def surpassed_by(means: Mapping[str, Means]) -> dict[str, str]:
    """Each that another is at least as good as in both scores and better in one, with the best of those others.

    The front is what is not among them.
    """
    return {
        name: max(better, key=lambda other: means[other])
        for name, ours in means.items()
        if (better := [other for other, theirs in means.items() if _surpasses(theirs, ours)])
    }


def _surpasses(one: Means, other: Means) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]
