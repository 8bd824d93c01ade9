"""What is trained: whole weights of one variant, or low-rank updates of several side by side.

While the block of `trainable` runs, the base's modules compute with the weights in training, so they can be rendered
from as they are. Frozen weights are cast once to the arithmetic's precision. Afterwards the modules hold their own
tensors again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limner.adapters import Adapter, LowRankLayer, LowRankUpdate, attached, eject, inject, inject_stacked, target_layers
from limner.adapters.low_rank import initial_update
from limner.base import Base
from limner.base.devices import RANK_MULTIPLE, in_channels_last
from limner.errors import AdapterError, InputError
from limner.kernels.flat_weights import CHANNELS_LAST, FlatWeights

INDEX_OF_FIRST_LAYER = {"unet": 0, "text_encoder": 1 << 16}  # so that no two layers start alike


@dataclass(frozen=True)
class LowRankPlan:
    """Which low-rank updates one variant trains."""

    rank: int
    alpha: float
    targets: str
    seed: int


@dataclass
class Trainable:
    """Weights in training by name ("unet.conv_in.weight"), and how to read a variant's result out of them.

    `groups` are what an optimizer may treat apart: {group: names of trained tensors}, each tensor in exactly one.
    """

    weights: FlatWeights
    groups: Mapping[str, tuple[str, ...]]
    parameters: dict[str, nn.Parameter]
    modules: Mapping[str, nn.Module]
    full_modules: tuple[str, ...] = ()  # those whose whole weights belong to the result
    layers: Mapping[str, Mapping[str, LowRankLayer]] = field(default_factory=dict)
    start: Adapter = field(default_factory=lambda: Adapter("base"))
    gradient: Tensor | None = None  # (V, P) of low-rank updates; autograd keeps those of whole weights
    zeros: dict[str, Tensor] = field(default_factory=dict)  # gradients of weights that nothing reads

    def count(self, variant: int = 0) -> int:
        """How many numbers a variant trains."""
        return sum(self._own(name, tensor, variant).numel() for name, tensor in self._tensors(variant))

    def state(self, variant: int = 0) -> dict[str, Tensor]:
        """One variant's weights in full precision, without the padding of smaller ranks, as copies."""
        return {name: self._own(name, tensor, variant).contiguous() for name, tensor in self._tensors(variant)}

    def load(self, state: Mapping[str, Tensor], variant: int = 0) -> None:
        """Take one variant's stored weights, name by name."""
        for name, segment in self.weights.segments.items():
            padded = torch.zeros(segment.shape, dtype=state[name].dtype)
            self._own(name, padded, variant).copy_(state[name])
            self.weights.write(name, padded, variant)

    def own_parts(self, rows: Tensor, variant: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Views by name of what is one variant's own in rows (V, P) of the weights' layout: moments, averages."""
        return ((name, self._own(name, view[variant], variant)) for name, view in self.weights.views(rows).items())

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
        full = {name: self._whole(name, dtype) for name in self.full_modules}
        low_rank = {
            module: {name: self._update(f"{module}.{name}", layer, variant) for name, layer in layers.items()}
            for module, layers in self.layers.items()
        }
        return Adapter(label, full, low_rank)

    def alive_chunks(self, size: int) -> Tensor:
        """(V, P/size) uint8: 1 for the parts of a row that are not all padding of smaller ranks."""
        variants, count = self.weights.weight.shape
        alive = torch.zeros(variants, -(-count // size), dtype=torch.uint8)
        for name, segment in self.weights.segments.items():
            for variant in range(variants):
                own = self._own(name, torch.empty(segment.shape, device="meta"), variant).numel()
                alive[variant, segment.offset // size : -(-(segment.offset + own) // size)] = 1
        return alive.to(self.weights.weight.device)

    @contextlib.contextmanager
    def only(self, variant: int) -> Iterator[None]:
        """A block in which the modules compute with one variant's updates alone, whatever their input's rows."""
        every = [layer for layers in self.layers.values() for layer in layers.values()]
        for layer in every:
            layer.chosen = variant
        try:
            yield
        finally:
            for layer in every:
                layer.chosen = None

    def _tensors(self, variant: int) -> Iterator[tuple[str, Tensor]]:
        return ((name, self.weights.read(name, variant)) for name in self.weights.segments)

    def _own(self, name: str, tensor: Tensor, variant: int) -> Tensor:
        """The part of a segment that is not padding: an update's first `rank` rows (down) or columns (up)."""
        module, _, rest = name.partition(".")
        layer_name, _, part = rest.rpartition(".")
        if module not in self.layers:
            return tensor
        rank = self.layers[module][layer_name].ranks[variant]
        return tensor[:rank] if part == "down" else tensor[:, :rank]

    def _update(self, name: str, layer: LowRankLayer, variant: int) -> LowRankUpdate:
        down, up = (
            _stored(self._own(f"{name}.{part}", self.weights.read(f"{name}.{part}", variant), variant))
            for part in ("down", "up")
        )
        return LowRankUpdate(down, up, layer.alphas[variant])

    def _whole(self, module: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """A module's state dict: what was trained, and of the rest what the variant started from."""
        own = self.start.full.get(module) or self.modules[module].state_dict()
        trained = {key: f"{module}.{key}" for key in own if f"{module}.{key}" in self.weights.segments}
        return {
            key: _stored(self.weights.read(trained[key]) if key in trained else tensor, dtype)
            for key, tensor in own.items()
        }


@contextlib.contextmanager
def trainable(
    base: Base,
    trained_modules: Sequence[str],
    *,
    low_rank: Sequence[LowRankPlan],
    start: Adapter | None,
    dtype: torch.dtype,
    exact_masters: bool = True,
    gradient_checkpointing: bool = False,
) -> Iterator[Trainable]:
    """Thaw `trained_modules` ("unet", "text_encoder"), or give them the low-rank updates of several variants.

    `dtype` is the arithmetic's precision; in bf16 weights keep exact fp32 masters unless `exact_masters` is false.
    `start` is the result to begin with. Raises AdapterError when it does not fit. Of a base that waits on the CPU the
    UNet and what is trained are on its device for the time of the block; its own weights stay where they are. The
    modules stay in evaluation mode: Stable Diffusion has no active dropout.
    """
    start = start or Adapter("base")
    modules = base.modules()
    names = tuple(name for name in modules if name in trained_modules)
    with attached(modules, Adapter(start.label, full=start.full)), _own_weights_kept(modules):
        cast_frozen(modules, () if low_rank else names, dtype, base.device, at_work=("unet", *names))
        kept = torch.float32 if dtype == torch.float16 else dtype  # fp16 cannot hold what it learns
        ready = (
            _give_updates(modules, names, start, low_rank, kept)
            if low_rank
            else _thaw(modules, names, start, kept, exact_masters, base.device)
        )
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
        place = device if name in at_work else next(module.parameters()).device
        for buffer in module.buffers():
            buffer.data = buffer.data.to(place)
        for parameter in module.parameters() if name not in thawed else ():
            ordered = parameter.ndim == 4 and in_channels_last(place)
            layout = torch.channels_last if ordered else torch.preserve_format
            parameter.data = parameter.data.to(place, dtype, memory_format=layout)


def groups_by_module(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Names of trained tensors by the module that starts each: {"unet": ("unet.conv_in.weight", …), …}."""
    ordered = tuple(names)
    modules = dict.fromkeys(name.partition(".")[0] for name in ordered)
    return {module: tuple(name for name in ordered if name.startswith(f"{module}.")) for module in modules}


def _thaw(
    modules: Mapping[str, nn.Module],
    names: tuple[str, ...],
    start: Adapter,
    dtype: torch.dtype,
    exact: bool,
    device: torch.device,
) -> Trainable:
    parameters = {f"{name}.{key}": each for name in names for key, each in _matrices_first(modules[name])}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    orders = {name: CHANNELS_LAST for name, shape in shapes.items() if len(shape) == 4 and in_channels_last(device)}
    weights = FlatWeights(shapes, 1, dtype, device, exact=exact, orders=orders)
    for name, parameter in parameters.items():
        weights.write(name, parameter.data)
        parameter.data = weights[name][0]
        parameter.requires_grad_(True)
    whole = tuple(name for name in modules if name in names or name in start.full)
    return Trainable(weights, groups_by_module(weights.segments), parameters, modules, whole, start=start)


def _matrices_first(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """A module's parameters, vectors last: so layers of one input have their weights together, and their biases."""
    return sorted(module.named_parameters(), key=lambda named: named[1].ndim == 1)


def _give_updates(
    modules: Mapping[str, nn.Module],
    names: tuple[str, ...],
    start: Adapter,
    plans: Sequence[LowRankPlan],
    dtype: torch.dtype,
) -> Trainable:
    layers, multiple = {}, RANK_MULTIPLE if next(modules["unet"].parameters()).is_cuda else 1
    for name in names:
        stacked = [_first_updates(name, modules[name], start, plan) for plan in plans]
        layers[name] = inject_stacked(modules[name], stacked, [1.0] * len(plans), multiple=multiple)
    for name, updates in start.low_rank.items():
        if name not in names:  # it goes on acting, untrained
            for layer in inject(modules[name], updates).values():
                layer.requires_grad_(False)
    parts = {
        f"{module}.{name}.{part}": (layer, part)
        for part in ("down", "up")  # those of layers that follow one another lie side by side
        for module, found in layers.items()
        for name, layer in found.items()
    }
    parameters = {name: getattr(layer, part) for name, (layer, part) in parts.items()}
    device = next(iter(parameters.values())).device
    shapes = {name: parameter.shape[1:] for name, parameter in parameters.items()}
    orders = {name: (1, 0, *range(2, len(shape))) for name, shape in shapes.items() if name.endswith(".up")}
    weights = FlatWeights(shapes, len(plans), dtype, device, orders=orders)  # the rank first: padding comes last
    gradient = torch.zeros_like(weights.weight)
    views = weights.views(gradient)
    for name, parameter in parameters.items():
        for variant, values in enumerate(parameter.data):
            weights.write(name, values, variant)
        parameter.data, parameter.grad = weights[name], views[name]
    for module, found in layers.items():
        for name, layer in found.items():
            layer.gradients = (views[f"{module}.{name}.down"], views[f"{module}.{name}.up"])
    groups = groups_by_module(weights.segments)
    return Trainable(weights, groups, parameters, modules, layers=layers, start=start, gradient=gradient)


def _first_updates(name: str, module: nn.Module, start: Adapter, plan: LowRankPlan) -> Mapping[str, LowRankUpdate]:
    targets = _targets(name, module, start, plan)
    if not targets:
        raise InputError(f'the {name} has no layers that targets = "{plan.targets}" stands for; choose other targets')
    if name in start.low_rank:
        return _continued(name, start, targets, plan)
    layers, first = dict(module.named_modules()), INDEX_OF_FIRST_LAYER[name]
    return {
        layer: initial_update(layers[layer], plan.rank, plan.alpha, plan.seed, first + index)
        for index, layer in enumerate(targets)
    }


def _targets(name: str, module: nn.Module, start: Adapter, plan: LowRankPlan) -> list[str]:
    if plan.targets != "start":
        return target_layers(module, plan.targets)
    return [layer for layer, _ in module.named_modules() if layer in start.low_rank.get(name, {})]


def _continued(name: str, start: Adapter, targets: Sequence[str], plan: LowRankPlan) -> Mapping[str, LowRankUpdate]:
    updates = start.low_rank[name]
    if set(updates) != set(targets):
        raise AdapterError(
            f'start_from "{start.label}" has updates of {len(updates)} {name} layers and targets = "{plan.targets}" '
            f'means {len(targets)}; set targets = "start" to train on those that it has'
        )
    strange = [u for u in updates.values() if u.rank != plan.rank or u.alpha != plan.alpha]
    if strange:
        raise AdapterError(
            f'start_from "{start.label}" has rank {strange[0].rank} and alpha {strange[0].alpha:g}, this variant rank '
            f"{plan.rank} and alpha {plan.alpha:g}; a LoRA can only be trained further at its own rank and alpha"
        )
    return {layer: updates[layer] for layer in targets}


def _stored(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy on the CPU; it is cast and laid out on its own device, which is quicker at both, and half is carried."""
    wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(wanted, copy=True, memory_format=torch.contiguous_format).to("cpu")


@contextlib.contextmanager
def _own_weights_kept(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """A block that may exchange the modules' weights and inject updates; then all have their own again."""
    own = [(t, t.data) for module in modules.values() for t in (*module.parameters(), *module.buffers())]
    try:
        yield
    finally:
        for module in modules.values():
            eject(module)
        for tensor, data in own:
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
