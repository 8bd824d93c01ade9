"""Columns of a comparison: a variant at a strength, and how those rendered together are attached to the base."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from limner.adapters import Adapter, LowRankLayer, LowRankUpdate, attached, eject, inject_stacked, load_trained
from limner.adapters.adapter import MODULES
from limner.adapters.formats import LORA_FILE
from limner.artifacts import AdapterFolder
from limner.base import Base, placed
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
        start = self.adapter.record.start_from
        return self.adapter.content_hash + (f"+{start.content_hash}" if start else "")

    @property
    def full(self) -> tuple[str, str] | None:
        """Label and hash of the full weights that stand in for the base's, or None."""
        if self.adapter is None:
            return None
        if any(f"{module}.safetensors" in self.adapter.manifest.files for module in MODULES):
            return self.adapter.label, self.adapter.content_hash
        start = self.adapter.record.start_from
        return (start.label, start.content_hash) if start else None

    @property
    def training_seed(self) -> int | None:
        """Seed that the adapter was trained with."""
        return None if self.adapter is None else self.adapter.record.training_seed

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


class AttachedColumns:
    """Attaches columns that are rendered together, one set after another, to a base.

    Full weights that follow one another are swapped in once; the columns of a set share them. Low-rank updates of the
    UNet are stacked, one column's rows after another's. Those of the text encoder are attached one column at a time,
    while its prompts are encoded. Weights keep their places, so that what was captured with them stays valid.
    """

    def __init__(self, base: Base, texts: Mapping[str, Sequence[str]]) -> None:
        self._base, self._texts = base, texts
        self._columns: list[Column] = []
        self._embeddings: dict[str, PromptEmbeddings] = {}
        self._layers: dict[str, LowRankLayer] = {}
        self._full_hash = ""
        self._full = contextlib.ExitStack()

    def __call__(self, columns: Sequence[Column]) -> list[PromptEmbeddings]:
        """Attach `columns` unless they are attached; returns each one's embeddings of its texts."""
        if list(columns) != self._columns:
            self._columns = []
            eject(self._base.unet)
            updates = [self._low_rank_of(column).get("unet", {}) for column in columns]
            strengths = [column.strength for column in columns]
            fresh = inject_stacked(self._base.unet, [_in(self._base.dtype, each) for each in updates], strengths)
            _keep_places(self._layers, fresh)
            self._layers |= fresh
            self._columns = list(columns)
        return [self._embeddings[column.label] for column in columns]

    def _low_rank_of(self, column: Column) -> Mapping[str, Mapping[str, LowRankUpdate]]:
        """A column's low-rank updates; its full weights are in place then, and its texts encoded."""
        adapter = load_trained(column.adapter) if column.adapter else Adapter(column.label)
        modules = self._base.modules()
        if adapter.full_hash != self._full_hash:
            self._full.close()
            self._full_hash = ""
            self._full.enter_context(attached(modules, Adapter(adapter.label, full=adapter.full)))
            self._full_hash = adapter.full_hash
            self._embeddings.clear()
        if column.label not in self._embeddings:
            own = {name: updates for name, updates in adapter.low_rank.items() if name == "text_encoder"}
            embeddings = PromptEmbeddings(self._base)
            updated = Adapter(adapter.label, low_rank=own)
            with placed(self._base, "text_encoder"), attached(modules, updated, column.strength):
                embeddings.of(self._texts[column.label])
            self._embeddings[column.label] = embeddings
        return adapter.low_rank

    def __enter__(self) -> AttachedColumns:
        """Begin with the untouched base."""
        return self

    def __exit__(self, *error: object) -> None:
        """Take everything off again."""
        eject(self._base.unet)
        self._full.close()


def _in(dtype: torch.dtype, updates: Mapping[str, LowRankUpdate]) -> dict[str, LowRankUpdate]:
    """The updates in the precision that they are computed in, so that no step casts them again."""
    return {name: replace(each, down=each.down.to(dtype), up=each.up.to(dtype)) for name, each in updates.items()}


@torch.no_grad()
def _keep_places(before: Mapping[str, LowRankLayer], fresh: Mapping[str, LowRankLayer]) -> None:
    """Move fresh updates to where those before lie, wherever they fit."""
    for name, layer in fresh.items():
        for part in ("down", "up") if name in before else ():
            own, place = getattr(layer, part), getattr(before[name], part)
            if (own.shape, own.dtype, own.device) == (place.shape, place.dtype, place.device):
                setattr(layer, part, place.copy_(own))
