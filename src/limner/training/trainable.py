"""What is trained: what a method attached to a base's modules, of one variant or of several side by side, in flat rows.

While the block of `trainable` runs, the base's modules compute with the weights in training, so they can be rendered
from as they are. Frozen weights are cast once to the arithmetic's precision. Afterwards the modules hold their own
tensors again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limner.adapters import Adapter, attached, eject
from limner.base import Base
from limner.base.devices import in_channels_last
from limner.kernels.flat_weights import FlatWeights
from limner.methods import Attachment, VariantRun


@dataclass
class Trainable:
    """Weights in training by name ("unet.conv_in.weight"), and how to read a variant's result out of them.

    `groups` are what an optimizer may treat apart: {group: names of trained tensors}, each tensor in exactly one.
    """

    weights: FlatWeights
    attachment: Attachment
    gradient: Tensor | None = None  # (V, P) where a method keeps them in rows; else autograd does
    zeros: dict[str, Tensor] = field(default_factory=dict)  # gradients of weights that nothing reads

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What the modules compute with."""
        return self.attachment.parameters

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Names of trained tensors by group."""
        return self.attachment.groups

    def count(self, variant: int = 0) -> int:
        """How many numbers a variant trains."""
        return sum(self._part_of(name, tensor, variant).numel() for name, tensor in self._tensors(variant))

    def state(self, variant: int = 0) -> dict[str, Tensor]:
        """One variant's weights in full precision, without the padding of smaller ranks, as copies."""
        return {name: self._part_of(name, tensor, variant).contiguous() for name, tensor in self._tensors(variant)}

    def load(self, state: Mapping[str, Tensor], variant: int = 0) -> None:
        """Take one variant's stored weights, name by name."""
        for name, segment in self.weights.segments.items():
            padded = torch.zeros(segment.shape, dtype=state[name].dtype)
            self._part_of(name, padded, variant).copy_(state[name])
            self.weights.write(name, padded, variant)

    def parts_of(self, rows: Tensor, variant: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Views by name of what is one variant's own in rows (V, P) of the weights' layout: moments, averages."""
        return ((name, self._part_of(name, view[variant], variant)) for name, view in self.weights.views(rows).items())

    def gradients(self) -> list[Tensor]:
        """Gradients in the order of names, (V, …) each; of layers that clip skip leaves out, zeros that never move."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                if name not in self.zeros:
                    self.zeros[name] = torch.zeros_like(parameter)
                parameter.grad = self.zeros[name]
        return [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]

    def adapter(self, label: str, dtype: torch.dtype = torch.float32, variant: int = 0) -> Adapter:
        """A variant's result as it is now, copied to the CPU; `dtype` is that of full weights."""

        def read(name: str) -> Tensor:
            return self._part_of(name, self.weights.read(name, variant), variant)

        return Adapter.of(label, *self.attachment.parts(read, dtype, variant))

    def alive_chunks(self, size: int) -> Tensor:
        """(V, P/size) uint8: 1 for the parts of a row that are not all padding of smaller ranks."""
        variants, count = self.weights.weight.shape
        alive = torch.zeros(variants, -(-count // size), dtype=torch.uint8)
        for name, segment in self.weights.segments.items():
            for variant in range(variants):
                numbers = self._part_of(name, torch.empty(segment.shape, device="meta"), variant).numel()
                alive[variant, segment.offset // size : -(-(segment.offset + numbers) // size)] = 1
        return alive.to(self.weights.weight.device)

    @contextlib.contextmanager
    def only(self, variant: int) -> Iterator[None]:
        """A block in which the modules compute with one variant's weights alone, whatever their input's rows."""
        for layer in self.attachment.layers:
            layer.chosen = variant
        try:
            yield
        finally:
            for layer in self.attachment.layers:
                layer.chosen = None

    def _tensors(self, variant: int) -> Iterator[tuple[str, Tensor]]:
        return ((name, self.weights.read(name, variant)) for name in self.weights.segments)

    def _part_of(self, name: str, tensor: Tensor, variant: int) -> Tensor:
        return self.attachment.variants_part(name, tensor, variant)


@contextlib.contextmanager
def trainable(
    base: Base,
    runs: Sequence[VariantRun],
    *,
    start: Adapter | None,
    dtype: torch.dtype,
    gradient_checkpointing: bool = False,
) -> Iterator[Trainable]:
    """Have the runs' method attach what they train to the base's modules.

    `dtype` is the arithmetic's precision; in bf16 weights keep exact fp32 masters where the method says so. `start` is
    the result to begin with. Raises AdapterError when it does not fit. Of a base that waits on the CPU the UNet and
    what is trained are on its device for the time of the block; its own weights stay where they are. The modules stay
    in evaluation mode: Stable Diffusion has no active dropout.
    """
    method, variant = runs[0].method, runs[0].variant
    start, modules = start or Adapter("base"), base.modules()
    trained = method.trained_modules(variant)
    names = tuple(name for name in modules if name in trained)
    beneath = {kind: part for kind, part in start.parts.items() if kind not in method.continues}
    with attached(modules, Adapter(start.label, beneath)), _weights_restored(modules):
        cast_frozen(modules, names if method.thaws else (), dtype, base.device, at_work=("unet", *names))
        kept = torch.float32 if dtype == torch.float16 else dtype  # fp16 cannot hold what it learns
        attachment = method.attach(modules, names, runs, start, base.device)
        exact = method.keeps_exact(variant)
        ready = _in_rows(attachment, kept, base.device, exact=exact, with_gradients=method.keeps_gradients)
        with _checkpointed(modules, names, gradient_checkpointing):
            yield ready


def cast_frozen(
    modules: Mapping[str, nn.Module],
    thawed: Sequence[str],
    dtype: torch.dtype,
    device: torch.device,
    *,
    at_work: Sequence[str],
) -> None:
    """Give the modules that are not thawed weights in `dtype`, 4-dimensional ones in channels-last order.

    Those `at_work` in every step come to `device` (a thawed one's buffers do), the others are cast where they lie.
    """
    for name, module in modules.items():
        target = device if name in at_work else next(module.parameters()).device
        for buffer in module.buffers():
            buffer.data = buffer.data.to(target)
        for parameter in module.parameters() if name not in thawed else ():
            ordered = parameter.ndim == 4 and in_channels_last(target)
            layout = torch.channels_last if ordered else torch.preserve_format
            parameter.data = parameter.data.to(target, dtype, memory_format=layout)
            parameter.requires_grad_(False)


def _in_rows(
    attachment: Attachment, dtype: torch.dtype, device: torch.device, *, exact: bool, with_gradients: bool
) -> Trainable:
    """Lay trained tensors end to end, one row a variant, and have the modules compute with them there."""
    stacked = attachment.is_stacked
    parameters = attachment.parameters
    shapes = {name: parameter.shape[1:] if stacked else parameter.shape for name, parameter in parameters.items()}
    weights = FlatWeights(shapes, attachment.variants, dtype, device, exact=exact, orders=attachment.orders)
    gradient = torch.zeros_like(weights.weight) if with_gradients else None
    views = weights.views(gradient) if gradient is not None else {}
    for name, parameter in parameters.items():
        for variant, values in enumerate(parameter.data if stacked else [parameter.data]):
            weights.write(name, values, variant)
        parameter.data = weights[name] if stacked else weights[name][0]
        parameter.requires_grad_(True)
        if views:
            parameter.grad = views[name] if stacked else views[name][0]
    if views:
        attachment.bind(views)
    return Trainable(weights, attachment, gradient)


@contextlib.contextmanager
def _weights_restored(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """A block that may exchange the modules' weights and inject updates; then all have their own again."""
    kept = [(t, t.data) for module in modules.values() for t in (*module.parameters(), *module.buffers())]
    try:
        yield
    finally:
        for module in modules.values():
            eject(module)
        for tensor, data in kept:
            tensor.data, tensor.grad = data, None
            tensor.requires_grad_(False)


@contextlib.contextmanager
def _checkpointed(modules: Mapping[str, Any], names: Sequence[str], on: bool) -> Iterator[None]:
    """Gradient checkpointing for the block; transformers does it in training mode only, which changes nothing else."""
    if not on:
        yield
        return
    modules["unet"].enable_gradient_checkpointing()
    if "text_encoder" in names:
        modules["text_encoder"].gradient_checkpointing_enable({"use_reentrant": False})
        modules["text_encoder"].train()
    try:
        yield
    finally:
        modules["unet"].disable_gradient_checkpointing()
        if "text_encoder" in names:
            modules["text_encoder"].gradient_checkpointing_disable()
            modules["text_encoder"].eval()
