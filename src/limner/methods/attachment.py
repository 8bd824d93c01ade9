"""What a method has put in training on a base's modules, for the engine to lay into flat rows and to train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from limner.adapters import Adapter, Part, StackedLayer

Read = Callable[[str], Tensor]
"""A trained tensor by name: a copy of one variant's, in full precision and without padding."""


@dataclass
class Attachment(ABC):
    """Trained tensors by name ("unet.conv_in.weight") in the order of the rows, and how a result is read from them.

    V variants train together. With `is_stacked` a parameter is (V, …), one a variant; else V is 1 and it is as the
    module has it.
    """

    parameters: Mapping[str, nn.Parameter]
    start: Adapter  # that training began from
    variants: int = 1
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of a tensor's dimensions in memory
    layers: Sequence[StackedLayer] = ()  # that stand in for the modules' own, all variants' beside one another
    groups: Mapping[str, tuple[str, ...]] = field(init=False)  # names by what an optimizer may treat apart

    is_stacked: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Group the tensors by module, unless a method knows better."""
        self.groups = groups_by_module(self.parameters)

    def bind(self, gradients: Mapping[str, Tensor]) -> None:
        """Take the places (V, …) where gradients are collected; asked where the method keeps them in rows."""
        return

    def variants_part(self, name: str, tensor: Tensor, variant: int) -> Tensor:
        """What of one variant's tensor is not padding."""
        return tensor

    @abstractmethod
    def parts(self, read: Read, dtype: torch.dtype, variant: int) -> list[Part]:
        """One variant's result as it is now, on the CPU; `dtype` is that of whole weights."""


def groups_by_module(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Names of trained tensors by the module that starts each: {"unet": ("unet.conv_in.weight", …), …}."""
    ordered = tuple(names)
    modules = dict.fromkeys(name.partition(".")[0] for name in ordered)
    return {module: tuple(name for name in ordered if name.startswith(f"{module}.")) for module in modules}


def stored(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy on the CPU; it is cast and laid out on its own device, which is quicker at both, and half is carried."""
    wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(wanted, copy=True, memory_format=torch.contiguous_format).to("cpu")
