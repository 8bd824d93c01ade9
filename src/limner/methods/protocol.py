"""What a way of teaching says of itself: one module a method, known by `registry`; nobody else asks which it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import nn

from limner.adapters import Adapter, LowRankUpdate, Part, WholeWeights, kinds_of
from limner.artifacts import AdapterFolder
from limner.methods.attachment import Attachment
from limner.settings import VariantSettings

if TYPE_CHECKING:
    from limner.methods.runs import VariantRun

SET_FOR_EACH_RUN = frozenset(
    {
        "name",
        "learning_rate",
        "text_encoder_learning_rate",
        "learning_rate_schedule",
        "warmup_steps",
        "training_seeds",
        "validation",
    }
)
"""Settings in which runs may differ that are computed together, whatever their method."""

Point = Mapping[str, Any]
"""Where in a variant's sweep a run is: {axis: value}, such as {"rank": 16}; empty without a sweep."""

ModuleOf = Callable[[str], nn.Module]
"""A module of the base without weights, on torch's "meta" device, by its name: to be looked at, not changed."""


class Footprint(Protocol):
    """What a method trains of a module, told from shapes alone. Equal ones need equal memory; it is hashable."""

    def attach(self, module: nn.Module) -> None:
        """Attach it to a frozen module on "meta", as `Method.attach` does to one with weights."""
        ...

    def count(self, module: nn.Module) -> int:
        """How many numbers of it are trained."""
        ...


class Method(ABC):
    """A way of teaching. Its questions are asked with a variant's settings, or with a run: one point of its sweep."""

    name: ClassVar[str]
    """What `method = "…"` says in a study."""
    settings: ClassVar[type[VariantSettings]]
    """Its settings, whose `method` is `Literal[name]`; their docstring is its line in the reference."""
    description: ClassVar[str]
    """One line: what is trained."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Settings that are lists, each value of which is trained by itself."""
    resolved_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings that a run holds resolved (`resolved`), beside the axes."""
    stacks: ClassVar[bool] = False
    """Whether runs that differ in nothing but the axes and `SET_FOR_EACH_RUN` can be trained in one pass."""
    makes: ClassVar[tuple[type[Part], ...]]
    """Types of the parts of its results."""
    starts_from: ClassVar[frozenset[str]] = frozenset({WholeWeights.kind})
    """Kinds of parts that a result may have for this method to start from it."""
    continues: ClassVar[frozenset[str]] = frozenset()
    """Of those the kinds that `attach` takes up itself, to train them further; others act beneath as they are."""
    thaws: ClassVar[bool] = False
    """Whether the trained numbers are the modules' own weights; else those are frozen in the step's precision."""
    keeps_gradients: ClassVar[bool] = False
    """Whether gradients are collected in rows that lie there all the time, which runs that stack need; else they come
    and go with the step."""

    @abstractmethod
    def trained_modules(self, variant: Any) -> tuple[str, ...]:
        """Names of the base's modules that have trained numbers: "unet", "text_encoder"."""

    @abstractmethod
    def attach(
        self,
        modules: Mapping[str, nn.Module],
        names: Sequence[str],
        runs: Sequence[VariantRun],
        start: Adapter,
        device: torch.device,
    ) -> Attachment:
        """Put what the runs train on the modules of these names, which lie on `device`, frozen unless `thaws`.

        The runs are one stack (`stack_key`). `start` is what they begin from: its parts of kinds that the method does
        not continue act already. Raises AdapterError where it does not fit, InputError for settings that do not.
        """

    @abstractmethod
    def footprint(self, run: VariantRun) -> Footprint:
        """What a run trains of each module, for the prediction of memory."""

    @abstractmethod
    def disk_bytes(self, run: VariantRun, module: ModuleOf) -> int:
        """What a run's result takes on disk."""

    def points(self, variant: VariantSettings) -> list[Point]:
        """The sweep, in the study's order: every combination of the axes' values."""
        values = product(*(getattr(variant, axis) for axis in self.axes))
        return [dict(zip(self.axes, each, strict=True)) for each in values]

    def stem(self, variant: VariantSettings, point: Point) -> str:
        """A run's label without its training seed: the variant's name or the method, with the values where they say
        which run it is.
        """
        if not point:
            return variant.name or self.name
        values = "-".join(f"{value:g}" if isinstance(value, float) else str(value) for value in point.values())
        if variant.name is None:
            return f"{self.name}-{values}"
        return f"{variant.name}-{self.name}-{values}" if len(self.points(variant)) > 1 else variant.name

    def resolved(self, run: VariantRun) -> dict[str, Any]:
        """What a run's settings come to beyond those that all methods share; its adapter's record says it too."""
        return dict(run.point)

    def detail(self, run: VariantRun) -> str:
        """A few words on what is trained, for a column of the report."""
        return ", ".join(f"{name} {value:g}" for name, value in run.point.items()) or self.description

    @property
    def is_stackable(self) -> bool:
        """Whether a part of its results acts at any strength, beside those of others."""
        return any(part.is_stackable for part in self.makes)

    @property
    def own_settings(self) -> frozenset[str]:
        """Settings that a run's point and `resolved` stand for."""
        return self.resolved_settings | frozenset(self.axes)

    def stack_key(self, run: VariantRun) -> str | None:
        """What runs must have in common to be trained in one pass; None for one that is trained alone.

        The optimizer has a say: blocks of 8-bit moments would depend on the other runs.
        """
        if not self.stacks or not run.variant.optimizer.can_be_stacked:
            return None
        return run.variant.model_dump_json(exclude=set(SET_FOR_EACH_RUN | self.own_settings))

    def start_fault(self, run: VariantRun, start: AdapterFolder) -> str:
        """Why a run cannot be trained from this result, or ""."""
        unsupported = [part.title for part in kinds_of(start) if part.kind not in self.starts_from]
        if not unsupported:
            return ""
        return (
            f'is {" and ".join(unsupported)}, which method = "{self.name}" cannot start from; start from whole '
            "weights, or give a LoRA in [[adapters]] with merged = true"
        )

    def further_fault(
        self, run: VariantRun, updates: Mapping[str, Mapping[str, LowRankUpdate]], strength: float, module: ModuleOf
    ) -> str:
        """Why a run cannot be trained further from a LoRA of these updates, or ""; asked where it starts from one."""
        return ""

    def keeps_exact(self, variant: Any) -> bool:
        """Whether trained numbers of a bf16 step have what makes them exact fp32 kept beside them."""
        return True

    def replaced_modules(self, variant: Any) -> tuple[str, ...]:
        """Modules whose own weights wait while a result's stand in for them."""
        return self.trained_modules(variant) if WholeWeights in self.makes else ()

    def size(self, run: VariantRun) -> float:
        """By which the runs of one variant are ordered: the one that is largest needs the most memory."""
        return 0.0

    def memory_savers(self, variant: Any) -> Iterator[dict[str, Any]]:
        """Settings that make a training smaller and are not set yet, the mildest first."""
        return iter(())

    def smaller_trainings(self, variant: Any) -> Iterator[tuple[dict[str, Any] | None, str]]:
        """Settings that train less, and what to say where a card has room for that; None: it is said in any case."""
        return iter(())

    def cautions(self, variant: Any, module: ModuleOf) -> dict[str, str]:
        """Sentences on runs, by their labels without the training seed, that will not be what their settings say."""
        return {}

    def scaling(self, run: VariantRun) -> tuple[str, float | None]:
        """How strength follows the axis "rank" (`statistics.AlphaRule`), and its number where it is fixed.

        A method whose axes have "rank" must say it.
        """
        raise NotImplementedError(f'method = "{self.name}" does not say how strength follows the rank')
