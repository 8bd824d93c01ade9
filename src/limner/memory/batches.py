"""The batches a grid is rendered in, as far as memory goes.

A captured step holds its memory for as long as its grid is rendered. Steps of other batches are captured into the same
memory, but rehearsed beside it, so the two largest batches that differ decide what a grid takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limner.config import Control, Study, expand_variants


@dataclass(frozen=True)
class Batches:
    """Pictures of the largest batch, and of the largest that differs from it (0 where all are alike)."""

    largest: int
    other: int


def batches_of_class(study: Study, at_once: int) -> Batches:
    """Class images, a single column; in buckets each shape has batches of its own."""
    shapes = ("one", "another") if study.prepare.shape == "buckets" else ("one",)
    return _largest_two({shape: study.class_images.count for shape in shapes}, [1], at_once)


def batches_of_render(study: Study, at_once: int) -> Batches:
    """The grid's, where `at_once` pictures are rendered together."""
    settings = study.render
    sizes = [prompt.size or settings.size for prompt in settings.prompts]
    each = len(settings.seeds) * settings.images_per_seed
    return _largest_two({size: sizes.count(size) * each for size in sizes}, _columns(study), at_once)


def batches_of_control(study: Study, settings: Control, at_once: int) -> Batches:
    """The references'; one that states no size may have any."""
    sizes = [reference.size or reference.name for reference in settings.references]
    return _largest_two({size: sizes.count(size) * len(settings.seeds) for size in sizes}, _columns(study), at_once)


def _columns(study: Study) -> list[int]:
    """How many columns may share a batch: the base with what is stackable at all strengths; others one by one."""
    runs = expand_variants(study.variants)
    stackable = [all(part.is_stackable for part in run.method.makes) for run in runs]
    stackable += [not adapter.merged for adapter in study.adapters]
    together = 1 + sum(stackable) * len(study.render.lora_scales)
    return [together] if all(stackable) else [together, 1]


def _largest_two(counts: Mapping[Any, int], columns: list[int], at_once: int) -> Batches:
    """Of `counts` pictures of each size in every column."""
    kinds = {
        (size, each) for size, count in counts.items() for column in columns for each in _sizes(count, column, at_once)
    }
    sizes = sorted((pictures for _, pictures in kinds), reverse=True)
    return Batches(sizes[0] if sizes else at_once, sizes[1] if len(sizes) > 1 else 0)


def _sizes(count: int, columns: int, at_once: int) -> set[int]:
    """Pictures of the batches of `columns` columns of `count` pictures, as many columns together as fit whole."""
    together = min(columns, max(1, at_once // max(1, count)))
    groups = {together, columns % together}
    return {min(at_once, left) for group in groups for left in range(group * count, 0, -at_once)}
