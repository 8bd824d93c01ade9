"""Columns of a comparison: a variant at a strength, and how one after another is attached to the base."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limner.adapters import Adapter, attached, load_trained
from limner.adapters.adapter import MODULES
from limner.adapters.formats import LORA_FILE
from limner.artifacts import AdapterFolder
from limner.base import Base
from limner.errors import InputError
from limner.rendering.batch import PromptEmbeddings

UNTOUCHED = "base"


@dataclass(frozen=True)
class Column:
    """One variant at one strength of its low-rank part; without an adapter it is the untouched base."""

    label: str
    adapter: AdapterFolder | None = None
    strength: float = 1.0

    @property
    def weights(self) -> str:
        """Names all weights beside the base's: the adapter's content and that of the result it started from."""
        if self.adapter is None:
            return ""
        start = self.adapter.record.get("start_from") or {}
        return self.adapter.content_hash + (f"+{start['content_hash']}" if start else "")

    @property
    def full(self) -> tuple[str, str] | None:
        """Label and hash of the full weights that stand in for the base's, or None."""
        if self.adapter is None:
            return None
        if any(f"{module}.safetensors" in self.adapter.manifest.files for module in MODULES):
            return self.adapter.label, self.adapter.content_hash
        start = self.adapter.record.get("start_from")
        return (start["label"], start["content_hash"]) if start else None

    @property
    def training_seed(self) -> int | None:
        """Seed that the adapter was trained with."""
        return None if self.adapter is None else self.adapter.record.get("training_seed")

    @property
    def low_rank(self) -> tuple[str, str] | None:
        """Label and hash of the low-rank part, or None."""
        if self.adapter is None or LORA_FILE not in self.adapter.manifest.files:
            return None
        return self.adapter.label, self.adapter.content_hash


def columns_of(adapters: Sequence[AdapterFolder], strengths: Sequence[float] = (1.0,)) -> list[Column]:
    """The untouched base, then every adapter; one with a low-rank part at each strength (LABELxSTRENGTH but at 1).

    Raises InputError when two would share a folder.
    """
    columns = [Column(UNTOUCHED)]
    for folder in adapters:
        has_low_rank = Column(folder.label, folder).low_rank is not None
        for strength in dict.fromkeys(strengths if has_low_rank else (1.0,)):
            label = folder.label if strength == 1 else f"{folder.label}x{strength:g}"
            columns.append(Column(label, folder, float(strength)))
    labels = [column.label for column in columns]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f'two variants would both be rendered into "{label}"; give one of them another name')
    return columns


class AttachedColumn:
    """Attaches one column after another to a base; full weights that two columns share are swapped in once."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._column: Column | None = None
        self._embeddings = PromptEmbeddings(base)
        self._adapter: Adapter | None = None
        self._full_hash = ""
        self._full, self._low_rank = contextlib.ExitStack(), contextlib.ExitStack()

    def __call__(self, column: Column) -> PromptEmbeddings:
        """Attach `column` unless it is attached; returns the prompt embeddings that belong to it."""
        if column == self._column:
            return self._embeddings
        self._low_rank.close()
        adapter = _adapter_of(column)
        modules = self._base.modules()
        if adapter.full_hash != self._full_hash:
            self._full.close()
            self._full_hash = ""
            self._full.enter_context(attached(modules, Adapter(adapter.label, full=adapter.full)))
            self._full_hash = adapter.full_hash
        low_rank = Adapter(adapter.label, low_rank=adapter.low_rank)
        self._low_rank.enter_context(attached(modules, low_rank, column.strength))
        self._column, self._embeddings = column, PromptEmbeddings(self._base)
        return self._embeddings

    def __enter__(self) -> Callable[[Column], PromptEmbeddings]:
        """Begin with the untouched base."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take everything off again."""
        self._low_rank.close()
        self._full.close()


def _adapter_of(column: Column) -> Adapter:
    if column.adapter is None:
        return Adapter(column.label)
    return load_trained(column.adapter)
