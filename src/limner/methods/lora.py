"""LoRA: low-rank updates of layers whose own weights stay as they are (Hu et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from pydantic import model_validator
from torch import Tensor, nn

from limner.adapters import (
    Adapter,
    LowRankLayer,
    LowRankUpdate,
    LowRankUpdates,
    Part,
    WholeWeights,
    inject,
    inject_stacked,
    kinds_of,
    target_layers,
)
from limner.adapters.exchange.imported import one_rank_and_alpha
from limner.adapters.low_rank import initial_update
from limner.artifacts import AdapterFolder
from limner.base.devices import RANK_MULTIPLE
from limner.errors import AdapterError, InputError
from limner.methods.attachment import Attachment, Read, stored
from limner.methods.protocol import Method, ModuleOf
from limner.settings import VariantSettings
from limner.settings.values import AtLeastOne, Integers, Positive

if TYPE_CHECKING:
    from limner.methods.runs import VariantRun

INDEX_OF_FIRST_LAYER = {"unet": 0, "text_encoder": 1 << 16}  # so that no two layers start alike
SQRT_RULE_ALPHA = 4.0  # makes the scale 1 at rank 16


class LoraVariant(VariantSettings):
    """Low-rank updates (Hu et al. 2022); a list of ranks makes one variant of each."""

    method: Literal["lora"]
    """"lora"."""
    steps: AtLeastOne = 500
    """Optimizer steps."""
    learning_rate: Positive = 1e-4
    """Peak learning rate."""
    rank: Integers = [16]
    """Rank of the updates, or a list of ranks."""
    alpha: Positive | None = None
    """Strength: the update is scaled by alpha / rank. Left out it is the rank (4 under the rule "sqrt")."""
    alpha_rule: Literal["rank", "sqrt"] = "rank"
    """"rank": the scale is alpha / rank. "sqrt": it is alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732)."""
    targets: Literal["attention", "transformer", "all", "start"] = "attention"
    """Which layers: attention projections, whole transformer blocks, or convolutions too; "start" are those of the LoRA
    that is trained further."""
    unet: bool = True
    """Give the UNet updates."""

    @model_validator(mode="after")
    def _trains_something(self) -> LoraVariant:
        if not (self.unet or self.text_encoder):
            raise ValueError("unet and text_encoder are both false, so nothing would be trained; set one to true")
        if self.targets == "start" and not self.start_from:
            raise ValueError('targets = "start" are those of the LoRA in start_from, which is left out; name one')
        if any(rank < 1 for rank in self.rank):
            raise ValueError(f"rank {min(self.rank)} is not possible; ranks start at 1")
        return self

    @property
    def most_targets(self) -> Literal["attention", "transformer", "all"]:
        """The targets, or all layers where the LoRA that is trained further decides: what memory is foretold by."""
        return "all" if self.targets == "start" else self.targets

    def alpha_for(self, rank: int) -> float:
        """The alpha that is stored for `rank`: an update's scale is always (stored alpha) / rank."""
        if self.alpha_rule == "sqrt":
            return (SQRT_RULE_ALPHA if self.alpha is None else self.alpha) * math.sqrt(rank)
        return float(rank) if self.alpha is None else self.alpha


@dataclass
class UpdatesInTraining(Attachment):
    """Updates of V variants beside their layers, by module and layer name."""

    updated: Mapping[str, Mapping[str, LowRankLayer]] = field(kw_only=True)

    is_stacked = True

    def bind(self, gradients: Mapping[str, Tensor]) -> None:
        """The layers' kernels add to them where they lie."""
        for module, layers in self.updated.items():
            for name, layer in layers.items():
                layer.gradients = (gradients[f"{module}.{name}.down"], gradients[f"{module}.{name}.up"])

    def variants_part(self, name: str, tensor: Tensor, variant: int) -> Tensor:
        """An update's first `rank` rows (down) or columns (up)."""
        module, _, rest = name.partition(".")
        layer_name, _, part = rest.rpartition(".")
        rank = self.updated[module][layer_name].ranks[variant]
        return tensor[:rank] if part == "down" else tensor[:, :rank]

    def parts(self, read: Read, dtype: torch.dtype, variant: int) -> list[Part]:
        """Updates in full precision, whatever `dtype` is."""
        return [
            LowRankUpdates(
                {
                    module: {name: _update(f"{module}.{name}", layer, read, variant) for name, layer in layers.items()}
                    for module, layers in self.updated.items()
                }
            )
        ]


def _update(name: str, layer: LowRankLayer, read: Read, variant: int) -> LowRankUpdate:
    return LowRankUpdate(stored(read(f"{name}.down")), stored(read(f"{name}.up")), layer.alphas[variant])


@dataclass(frozen=True)
class UpdateShapes:
    """Updates of one rank of the layers that `targets` stands for."""

    rank: int
    targets: str

    def attach(self, module: nn.Module) -> None:
        """Put them beside the layers, with their gradients' buffers."""
        for layer in inject_stacked(module, [self._updates(module)], [1.0]).values():
            for parameter in (layer.down, layer.up):
                parameter.grad = torch.empty_like(parameter)
            layer.gradients = cast("tuple[Tensor, Tensor]", (layer.down.grad, layer.up.grad))

    def count(self, module: nn.Module) -> int:
        """Numbers of all updates."""
        return sum(update.down.numel() + update.up.numel() for update in self._updates(module).values())

    def _updates(self, module: nn.Module) -> dict[str, LowRankUpdate]:
        layers: dict[str, Any] = dict(module.named_modules())
        return {name: self._update(layers[name].weight) for name in target_layers(module, self.targets)}

    def _update(self, weight: Tensor) -> LowRankUpdate:
        down = weight.new_empty(self.rank, *weight.shape[1:])  # (rank, in, …)
        up = weight.new_empty(weight.shape[0], self.rank, *[1] * (weight.ndim - 2))
        return LowRankUpdate(down, up, float(self.rank))


class LowRankMethod(Method):
    """Updates of low rank, of several variants side by side."""

    name = "lora"
    settings = LoraVariant
    description = "low-rank updates"
    axes = ("rank",)
    resolved_settings = frozenset({"alpha", "alpha_rule"})
    stacks = True
    makes = (LowRankUpdates,)
    starts_from = frozenset({WholeWeights.kind, LowRankUpdates.kind})
    continues = frozenset({LowRankUpdates.kind})
    keeps_gradients = True

    def trained_modules(self, variant: LoraVariant) -> tuple[str, ...]:
        """Those that are given updates."""
        return (("unet",) if variant.unet else ()) + (("text_encoder",) if variant.text_encoder else ())

    def resolved(self, run: VariantRun) -> dict[str, Any]:
        """Rank, the alpha that is stored, and the scale of the update."""
        rank, alpha = run.point["rank"], run.variant.alpha_for(run.point["rank"])
        return {"rank": rank, "alpha": alpha, "scale": alpha / rank}

    def detail(self, run: VariantRun) -> str:
        """Rank, alpha and scale."""
        return ", ".join(f"{name} {value:g}" for name, value in self.resolved(run).items())

    def attach(
        self,
        modules: Mapping[str, nn.Module],
        names: Sequence[str],
        runs: Sequence[VariantRun],
        start: Adapter,
        device: torch.device,
    ) -> UpdatesInTraining:
        """Fresh updates, or those of the start; what it has of modules that are not trained goes on acting."""
        multiple = RANK_MULTIPLE if device.type == "cuda" else 1
        updated: dict[str, dict[str, LowRankLayer]] = {}
        for name in names:
            stacked = [_first_updates(name, modules[name], start, run) for run in runs]
            updated[name] = inject_stacked(modules[name], stacked, [1.0] * len(runs), multiple=multiple)
        for name, updates in start.low_rank.items():
            if name not in names:
                for layer in inject(modules[name], updates).values():
                    layer.requires_grad_(False)
        parameters: dict[str, nn.Parameter] = {
            f"{module}.{name}.{part}": getattr(layer, part)
            for part in ("down", "up")  # those of layers that follow one another lie side by side
            for module, layers in updated.items()
            for name, layer in layers.items()
        }
        ups = {name: parameter.ndim - 1 for name, parameter in parameters.items() if name.endswith(".up")}
        orders = {name: (1, 0, *range(2, size)) for name, size in ups.items()}  # the rank first: padding comes last
        layers = [layer for each in updated.values() for layer in each.values()]
        return UpdatesInTraining(parameters, start, len(runs), orders, layers, updated=updated)

    def start_fault(self, run: VariantRun, start: AdapterFolder) -> str:
        """A LoRA is trained further at its own rank and alpha."""
        if LowRankUpdates in kinds_of(start):
            return _rank_fault(run, start.record.method_record.get("rank"), start.record.method_record.get("alpha"))
        return super().start_fault(run, start)

    def further_fault(
        self, run: VariantRun, updates: Mapping[str, Mapping[str, LowRankUpdate]], strength: float, module: ModuleOf
    ) -> str:
        """Another rank or alpha, or other layers than it has."""
        rank, alpha = one_rank_and_alpha(updates)
        fault, targets = _rank_fault(run, rank, None if alpha is None else alpha * strength), run.variant.targets
        for part in self.trained_modules(run.variant) if not fault else ():
            of_start = set(updates.get(part, {}))
            if targets == "start":
                wanted, fault = of_start, "" if of_start else f"has no updates of the {part}, which this variant trains"
            else:
                wanted = set(target_layers(module(part), targets))
            if of_start and of_start != wanted:
                fault = (
                    f'has updates of {len(of_start)} {part} layers, but targets = "{targets}" means {len(wanted)}; '
                    'set targets = "start" to train those layers'
                )
        return fault

    def footprint(self, run: VariantRun) -> UpdateShapes:
        """Updates of the rank that is computed with on a GPU."""
        rank = -(-run.point["rank"] // RANK_MULTIPLE) * RANK_MULTIPLE
        return UpdateShapes(rank, run.variant.most_targets)

    def disk_bytes(self, run: VariantRun, module: ModuleOf) -> int:
        """Updates are written in fp32."""
        shapes = UpdateShapes(run.point["rank"], run.variant.most_targets)
        counts = [shapes.count(module(name)) for name in self.trained_modules(run.variant)]
        return torch.float32.itemsize * sum(counts)

    def size(self, run: VariantRun) -> float:
        """The rank."""
        return run.point["rank"]

    def cautions(self, variant: LoraVariant, module: ModuleOf) -> dict[str, str]:
        """Ranks that are not low: there an update has as many numbers as the layer beside it, or more."""
        if variant.targets == "start":  # what was trained so is trained further
            return {}
        bounds = [
            bound for name in self.trained_modules(variant) for bound in _rank_bounds(module(name), variant.targets)
        ]
        cautions = {}
        for point in self.points(variant):
            if count := sum(point["rank"] >= bound for bound in bounds):
                name = self.stem(variant, point)
                cautions[name] = (
                    f"{name}: rank {point['rank']} is no longer low for {count} of {len(bounds)} layers, where the "
                    f"update has as many numbers as the layer itself or more (from rank {math.ceil(min(bounds))} on)"
                )
        return cautions

    def scaling(self, run: VariantRun) -> tuple[str, float | None]:
        """The rule of alpha, and the alpha where it does not follow the rank."""
        variant, alpha = run.variant, run.variant.alpha_for(run.point["rank"])
        if variant.alpha_rule == "sqrt":
            return "alpha/sqrt(rank)", variant.alpha
        follows = variant.alpha is None or (len(variant.rank) == 1 and alpha == run.point["rank"])
        return ("alpha = rank", None) if follows else ("alpha fixed", alpha)


def _first_updates(name: str, module: nn.Module, start: Adapter, run: VariantRun) -> Mapping[str, LowRankUpdate]:
    targets = _targets(name, module, start, run.variant.targets)
    if not targets:
        raise InputError(
            f'the {name} has no layers that targets = "{run.variant.targets}" stands for; choose other targets'
        )
    if name in start.low_rank:
        return _updates_of_start(name, start, targets, run)
    layers, first = dict(module.named_modules()), INDEX_OF_FIRST_LAYER[name]
    rank = run.point["rank"]
    return {
        layer: initial_update(layers[layer], rank, run.variant.alpha_for(rank), run.training_seed, first + index)
        for index, layer in enumerate(targets)
    }


def _targets(name: str, module: nn.Module, start: Adapter, targets: str) -> list[str]:
    if targets != "start":
        return target_layers(module, targets)
    return [layer for layer, _ in module.named_modules() if layer in start.low_rank.get(name, {})]


def _updates_of_start(
    name: str, start: Adapter, targets: Sequence[str], run: VariantRun
) -> Mapping[str, LowRankUpdate]:
    updates, rank = start.low_rank[name], run.point["rank"]
    alpha = run.variant.alpha_for(rank)
    if set(updates) != set(targets):
        raise AdapterError(
            f'start_from "{start.label}" has updates of {len(updates)} {name} layers and targets = '
            f'"{run.variant.targets}" means {len(targets)}; set targets = "start" to train those layers'
        )
    different = [update for update in updates.values() if update.rank != rank or update.alpha != alpha]
    if different:
        raise AdapterError(
            f'start_from "{start.label}" has rank {different[0].rank} and alpha {different[0].alpha:g}, this variant '
            f"rank {rank} and alpha {alpha:g}; a LoRA can only be trained further at its own rank and alpha"
        )
    return {layer: updates[layer] for layer in targets}


def _rank_fault(run: VariantRun, rank: int | None, alpha: float | None) -> str:
    """Why a run cannot go on from a LoRA of this rank and alpha (None: its updates differ in it), or ""."""
    wanted = run.point["rank"], run.variant.alpha_for(run.point["rank"])
    if wanted == (rank, alpha):
        return ""
    ranks = f"rank {rank}" if rank else "several ranks"
    alphas = "several alphas" if alpha is None else f"alpha {alpha:g}"
    return (
        f"has {ranks} and {alphas}, this variant {wanted[0]} and {wanted[1]:g}; a LoRA is trained further at its own "
        "(limner lora resize makes another rank of it). To train one on top of it, put it into [[adapters]] with "
        "merged = true"
    )


def _rank_bounds(module: nn.Module, targets: str) -> list[float]:
    """For each layer the rank at which rank · (in + out) = in · out (Hu et al. 2022, section 4.1)."""
    layers: dict[str, Any] = dict(module.named_modules())
    weights = [layers[name].weight for name in target_layers(module, targets)]
    sides = [(weight.shape[0], weight[0].numel()) for weight in weights]  # of a convolution in · k · k
    return [into * out / (into + out) for out, into in sides]
