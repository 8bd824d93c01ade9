"""Columns of a comparison: a variant at a strength, and how those rendered together are attached to the base."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from limner.adapters import (
    Adapter,
    LowRankUpdates,
    Part,
    StackedLayer,
    attached,
    eject,
    fixed_parts,
    kinds_of,
    load_trained,
    part_types,
)
from limner.adapters.adapter import joined_hashes
from limner.artifacts import AdapterFolder
from limner.base import Base, placed
from limner.errors import InputError
from limner.rendering.batch import PromptEmbeddings

UNTOUCHED = "base"


@dataclass(frozen=True)
class Column:
    """One variant at one strength of its stackable parts; without an adapter it is the untouched base."""

    label: str
    adapter: AdapterFolder | None = None
    strength: float = 1.0

    @property
    def weights(self) -> str:
        """Names all weights beside the base's: the adapter's content and that of the result it started from."""
        if self.adapter is None:
            return ""
        start = self.adapter.record.start_from
        return self.adapter.content_hash + (f"+{start.content_hash}" if start else "")

    @cached_property
    def fixed(self) -> tuple[str, str] | None:
        """Label and hash of what stands in for the base and cannot be stacked, or None: whole weights, say.

        The label is of the result that was trained last of those that have such parts.
        """
        parts = fixed_parts(self.adapter) if self.adapter else []
        return (parts[0][0], joined_hashes([content_hash for _, content_hash in parts])) if parts else None

    @cached_property
    def is_stackable(self) -> bool:
        """Whether a part of its own acts at any strength, beside those of other columns."""
        return self.adapter is not None and any(part.is_stackable for part in kinds_of(self.adapter))

    @property
    def training_seed(self) -> int | None:
        """Seed that the adapter was trained with."""
        return None if self.adapter is None else self.adapter.record.training_seed

    @property
    def low_rank(self) -> tuple[str, str] | None:
        """Label and hash of low-rank updates of its own, or None."""
        if self.adapter is None or LowRankUpdates not in kinds_of(self.adapter):
            return None
        return self.adapter.label, self.adapter.content_hash


def columns_of(adapters: Sequence[AdapterFolder], strengths: Sequence[float] = (1.0,)) -> list[Column]:
    """The untouched base, then every adapter; one with a stackable part at each strength (LABELxSTRENGTH but at 1).

    Raises InputError when two would share a folder.
    """
    columns = [Column(UNTOUCHED)]
    for folder in adapters:
        for strength in dict.fromkeys(strengths if Column(folder.label, folder).is_stackable else (1.0,)):
            label = folder.label if strength == 1 else f"{folder.label}x{strength:g}"
            columns.append(Column(label, folder, float(strength)))
    labels = [column.label for column in columns]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f'two variants would both be rendered into "{label}"; give one of them another name')
    return columns


class AttachedColumns:
    """Attaches columns that are rendered together, one set after another, to a base.

    The columns of a set share what cannot be stacked, whole weights say; it is read and attached once for all sets in a
    row that share it. What is stackable acts in the UNet on one column's rows after another's; in the text encoder one
    column at a time, while its prompts are encoded. Weights keep their places, so that what was captured with them
    stays valid.
    """

    def __init__(self, base: Base, texts: Mapping[str, Sequence[str]]) -> None:
        self._base, self._texts = base, texts
        self._columns: list[Column] = []
        self._embeddings: dict[str, PromptEmbeddings] = {}
        self._layers: dict[str, dict[str, StackedLayer]] = {}  # by kind of part and name
        self._fixed: tuple[str, str] | None = None
        self._attached = contextlib.ExitStack()

    def __call__(self, columns: Sequence[Column]) -> list[PromptEmbeddings]:
        """Attach `columns` unless they are attached; returns each one's embeddings of its texts."""
        if list(columns) != self._columns:
            self._columns = []
            eject(self._base.unet)
            stackable = [self._stackable_of(column) for column in columns]
            strengths = [column.strength for column in columns]
            for kind in part_types():
                parts = [each.get(kind.kind) for each in stackable]
                if any(parts):
                    fresh = kind.stack(self._base.unet, "unet", parts, strengths, self._base.dtype)
                    before = self._layers.setdefault(kind.kind, {})
                    _keep_storage(before, fresh)
                    before |= fresh
            self._columns = list(columns)
        return [self._embeddings[column.label] for column in columns]

    def _stackable_of(self, column: Column) -> Mapping[str, Part]:
        """A column's stackable parts; the others are in place then, and its texts encoded."""
        if column.fixed != self._fixed:
            self._attach_fixed(column)
        parts = load_trained(column.adapter, is_stackable=True).stackable if column.adapter else {}
        if column.label not in self._embeddings:
            embeddings = PromptEmbeddings(self._base)
            updated = Adapter.of(column.label, *(part.of(["text_encoder"]) for part in parts.values()))
            with placed(self._base, "text_encoder"), attached(self._base.modules(), updated, column.strength):
                embeddings.of(self._texts[column.label])
            self._embeddings[column.label] = embeddings
        return parts

    def _attach_fixed(self, column: Column) -> None:
        """Attach what a column has that cannot be stacked, in the place of another's."""
        self._attached.close()
        self._fixed = None
        self._embeddings.clear()
        if column.adapter is not None and column.fixed is not None:
            fixed = load_trained(column.adapter, is_stackable=False)
            self._attached.enter_context(attached(self._base.modules(), fixed))
        self._fixed = column.fixed

    def __enter__(self) -> AttachedColumns:
        """Begin with the untouched base."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take everything off again."""
        eject(self._base.unet)
        self._attached.close()


@torch.no_grad()
def _keep_storage(before: Mapping[str, StackedLayer], fresh: Mapping[str, StackedLayer]) -> None:
    """Move fresh parameters to where those before lie, wherever they fit."""
    for name, layer in fresh.items():
        earlier = dict(before[name].named_parameters(recurse=False)) if name in before else {}
        for part, parameter in dict(layer.named_parameters(recurse=False)).items():
            storage = earlier.get(part)
            if storage is not None and _is_like(parameter, storage):
                setattr(layer, part, storage.copy_(parameter))


def _is_like(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
