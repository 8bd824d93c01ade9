"""DreamBooth: whole weights are trained (Ruiz et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from limner.adapters import Adapter, Part, WholeWeights
from limner.base.devices import in_channels_last
from limner.kernels.flat_weights import CHANNELS_LAST
from limner.methods.attachment import Attachment, Read, stored
from limner.methods.protocol import Method, ModuleOf
from limner.settings import VariantSettings
from limner.settings.values import NotNegative

if TYPE_CHECKING:
    from limner.methods.runs import VariantRun


class FullVariant(VariantSettings):
    """DreamBooth: all weights of the UNet and, unless said, of the text encoder (Ruiz et al. 2023)."""

    method: Literal["full"]
    """"full"."""
    text_encoder: bool = True
    """Train the text encoder as well."""
    prior_preservation: bool = True
    """Train on class images too, so that the class is not forgotten."""
    checkpoint_every_steps: NotNegative = 400
    """Write a resumable state every this many steps (for SD 1.5 about 12 GB, two are kept); 0 only when interrupted."""


@dataclass
class ThawedWeights(Attachment):
    """A variant's own modules in training."""

    modules: Mapping[str, nn.Module] = field(kw_only=True)
    whole: tuple[str, ...] = field(kw_only=True)  # whose weights belong to the result

    def parts(self, read: Read, dtype: torch.dtype, variant: int) -> list[Part]:
        """State dicts: what was trained, and of the rest what the variant started from."""
        return [WholeWeights({module: self._state(module, read, dtype) for module in self.whole})]

    def _state(self, module: str, read: Read, dtype: torch.dtype) -> dict[str, Tensor]:
        initial = self.start.full.get(module) or self.modules[module].state_dict()
        trained = {key: f"{module}.{key}" for key in initial if f"{module}.{key}" in self.parameters}
        return {key: stored(read(trained[key]) if key in trained else each, dtype) for key, each in initial.items()}


@dataclass(frozen=True)
class ThawedShapes:
    """All weights of a module."""

    def attach(self, module: nn.Module) -> None:
        """Thaw it."""
        module.requires_grad_(True)

    def count(self, module: nn.Module) -> int:
        """All of its numbers."""
        return sum(parameter.numel() for parameter in module.parameters())


class WholeWeightsMethod(Method):
    """All weights of the modules that are trained, each variant by itself."""

    name = "full"
    settings = FullVariant
    description = "all weights"
    makes = (WholeWeights,)
    thaws = True

    def trained_modules(self, variant: FullVariant) -> tuple[str, ...]:
        """The UNet, and the text encoder unless said."""
        return ("unet", "text_encoder") if variant.text_encoder else ("unet",)

    def attach(
        self,
        modules: Mapping[str, nn.Module],
        names: Sequence[str],
        runs: Sequence[VariantRun],
        start: Adapter,
        device: torch.device,
    ) -> ThawedWeights:
        """Its parameters as they are."""
        parameters = {f"{name}.{key}": each for name in names for key, each in _matrices_first(modules[name])}
        four_dimensional = [name for name, parameter in parameters.items() if parameter.ndim == 4]
        orders = dict.fromkeys(four_dimensional if in_channels_last(device) else (), CHANNELS_LAST)
        whole = tuple(name for name in modules if name in names or name in start.full)
        return ThawedWeights(parameters, start, orders=orders, modules=modules, whole=whole)

    def keeps_exact(self, variant: FullVariant) -> bool:
        """Unless the masters are given up for memory."""
        return variant.master_weights == "exact"

    def footprint(self, run: VariantRun) -> ThawedShapes:
        """All weights."""
        return ThawedShapes()

    def disk_bytes(self, run: VariantRun, module: ModuleOf) -> int:
        """Whole weights are written in fp16."""
        counts = [ThawedShapes().count(module(name)) for name in self.trained_modules(run.variant)]
        return torch.float16.itemsize * sum(counts)

    def memory_savers(self, variant: FullVariant) -> Iterator[dict[str, Any]]:
        """8-bit moments, then bf16 weights without their exact masters."""
        if variant.optimizer.name == "adamw":
            yield {"optimizer.name": "adamw8bit"}
        if variant.precision in ("auto", "bf16") and variant.master_weights != "none":
            yield {"master_weights": "none"}

    def smaller_trainings(self, variant: FullVariant) -> Iterator[tuple[dict[str, Any] | None, str]]:
        """The UNet alone, then a LoRA."""
        if variant.text_encoder:
            yield {"text_encoder": False}, "without training the text encoder (text_encoder = false) it fits"
        yield None, 'a LoRA (method = "lora") needs far less'


def _matrices_first(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """A module's parameters, vectors last: so layers of one input have their weights together, and their biases."""
    return sorted(module.named_parameters(), key=lambda named: named[1].ndim == 1)
