"""What an adapter is made of: parts of several kinds, each of which knows how it acts and how it is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from limner.adapters.stacked import StackedLayer
from limner.errors import AdapterError


class Part(ABC):
    """Whole weights, low-rank updates or whatever else a method teaches, by the names of the base's modules."""

    kind: ClassVar[str]
    """Its name among an adapter's parts, such as "weights"."""
    title: ClassVar[str]
    """What people call it, such as "whole weights"."""
    replaces_all: ClassVar[bool] = False
    """Whether it holds all that the result which it was trained from did."""
    is_stackable: ClassVar[bool] = False
    """Whether those of several adapters can act in one pass, each on its own rows and at its own strength (`stack`)."""

    @abstractmethod
    def modules(self) -> tuple[str, ...]:
        """Names of the modules that it changes."""

    @abstractmethod
    def attached(self, modules: Mapping[str, Any], strength: float = 1.0) -> AbstractContextManager[None]:
        """A block in which it acts on a base's modules; afterwards they are bit for bit what they were.

        `strength` multiplies what is stackable. Raises AdapterError, before anything is changed, where it does not fit.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write its files into an existing folder."""

    @classmethod
    @abstractmethod
    def is_stored(cls, files: Collection[str]) -> bool:
        """Whether a folder of these files holds one."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read it. Raises AdapterError for damaged files and keys that are not understood."""

    @abstractmethod
    def content_hash(self) -> str:
        """SHA-256 of names, types, shapes and bytes."""

    def of(self, names: Collection[str]) -> Self:
        """The same of these modules alone; asked of what is stackable."""
        raise NotImplementedError

    def on(self, earlier: Any) -> Self:
        """It with the one that it was trained further from: what that one has of other modules acts as well."""
        return self

    @classmethod
    def stack(
        cls, module: nn.Module, name: str, parts: Sequence[Any], strengths: Sequence[float], dtype: torch.dtype
    ) -> Mapping[str, StackedLayer]:
        """Have several act on `module`, called `name` in the base, each on its own group of rows; None is no change.

        Returns the layers that now stand in, whose own parameters (without `original`'s) are in `dtype`. `eject`
        takes them out.
        """
        raise NotImplementedError

    @classmethod
    def loading_lines(cls, folder: str, files: Collection[str]) -> list[str]:
        """Python that loads it from a run's `folder` into a diffusers `pipeline`."""
        return [f"# {folder}: diffusers has no way to load {cls.title}; limner.adapters attaches them"]


_TYPES: dict[str, type[Part]] = {}


def register_part(part: type[Part]) -> None:
    """Let adapters have parts of this type; they are attached in the order of registration.

    Raises AdapterError where another type has its kind.
    """
    if _TYPES.setdefault(part.kind, part) is not part:
        raise AdapterError(f'parts of kind "{part.kind}" are of another type already; give this one another kind')


def forget_part(part: type[Part]) -> None:
    """Take back `register_part`."""
    _TYPES.pop(part.kind, None)


def part_types() -> tuple[type[Part], ...]:
    """Every type of part, in the order in which they are attached."""
    return tuple(_TYPES.values())


def types_stored(files: Collection[str]) -> list[type[Part]]:
    """Types of the parts that a folder of these files holds."""
    return [part for part in part_types() if part.is_stored(files)]
