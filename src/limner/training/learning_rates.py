"""Parameter groups and the learning rate of each at every step: the table that a step looks its rates up in.

Shapes: V variants, G parameter groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from limner.config import VariantRun, VariantSettings
from limner.optimizers import ParameterGroup
from limner.training.learning_rate_schedule import learning_rate_at


def parameter_groups(
    runs: Sequence[VariantRun],
    trained: Mapping[str, tuple[str, ...]],
    options: Callable[[str], Mapping[str, float]],
) -> list[ParameterGroup]:
    """The groups of a stack: of the `trained` ones {group: tensors} those that every run treats alike are one.

    `options` are what the optimizer sets for a group by its name.
    """
    by_options: dict[object, list[str]] = {}
    for name in trained:
        rates = tuple(peak_learning_rate(run.variant, name) for run in runs)
        by_options.setdefault((rates, tuple(sorted(options(name).items()))), []).append(name)
    return [
        ParameterGroup(tuple(names), tuple(tensor for name in names for tensor in trained[name]), options(names[0]))
        for names in by_options.values()
    ]


def peak_learning_rate(variant: VariantSettings, group: str) -> float:
    """A group's learning rate before its schedule."""
    if group == "text_encoder" and variant.text_encoder_learning_rate is not None:
        return variant.text_encoder_learning_rate
    return variant.learning_rate


def learning_rates(runs: Sequence[VariantRun], groups: Sequence[ParameterGroup], device: torch.device) -> Tensor:
    """(steps, V, G): the learning rates of every step, counted from 0; fp64 where the device has it."""
    table = [
        [[_at(run.variant, group.names[0], step) for group in groups] for run in runs]
        for step in range(runs[0].variant.steps)
    ]
    return torch.tensor(table, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


def _at(variant: VariantSettings, group: str, step: int) -> float:
    return learning_rate_at(
        step,
        peak=peak_learning_rate(variant, group),
        schedule=variant.learning_rate_schedule,
        warmup_steps=variant.warmup_steps,
        steps=variant.steps,
    )


def rates_by_name(groups: Sequence[ParameterGroup], rates: Sequence[float]) -> dict[str, float] | None:
    """{group: its rate} by the trainable's own groups; None where all are one."""
    if len(groups) == 1:
        return None
    return {name: rate for group, rate in zip(groups, rates, strict=True) for name in group.names}
