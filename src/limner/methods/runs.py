"""From the study's variants to single runs: one for each point of a sweep and training seed, labelled as their folders
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.artifacts import AdapterFolder
from limner.errors import InputError
from limner.methods.protocol import Method, Point
from limner.methods.registry import method_of
from limner.settings import VariantSettings


@dataclass(frozen=True)
class VariantRun:
    """One adapter to be trained: a variant at one point of its sweep and one training seed."""

    label: str
    variant: Any  # its method's settings
    point: Point
    training_seed: int
    start_from: str

    @property
    def method(self) -> Method:
        """How it is taught."""
        return method_of(self.variant)

    @property
    def rank(self) -> int | None:
        """Its place on the axis "rank", where its sweep has one."""
        return self.point.get("rank")


def expand_variants(variants: Sequence[VariantSettings]) -> list[VariantRun]:
    """One run for each point of a sweep and training seed, in the study's order, labelled as the run's folders are."""
    return [run for variant in variants for run in _runs_of(variant, variants)]


def _runs_of(variant: VariantSettings, variants: Sequence[VariantSettings]) -> Iterator[VariantRun]:
    method, start = method_of(variant), variant.start_from
    several = any(len(v.training_seeds) > 1 and start in variant_stems(v) for v in variants)
    for point in method.points(variant):
        for seed in variant.training_seeds:
            stem = method.stem(variant, point)
            label = f"{stem}@{seed}" if len(variant.training_seeds) > 1 else stem
            yield VariantRun(label, variant, point, seed, f"{start}@{seed}" if start and several else start)


def variant_stems(variant: VariantSettings) -> list[str]:
    """The names of a variant's runs without their training seeds: what `start_from` may name."""
    method = method_of(variant)
    return [method.stem(variant, point) for point in method.points(variant)]


def stacks_of(runs: Sequence[VariantRun]) -> list[list[VariantRun]]:
    """Runs that can be trained in one pass together, in the order of each stack's first run.

    Those are runs of one method from the same start, of which their method says that they can.
    """
    stacks: dict[tuple[str | None, ...], list[VariantRun]] = {}
    for run in runs:
        shared = run.method.stack_key(run)
        alone = run.label if shared is None else None
        stacks.setdefault((run.method.name, run.start_from, shared, alone), []).append(run)
    return list(stacks.values())


def require_start(run: VariantRun, start: AdapterFolder | None, out: Path) -> None:
    """Raise InputError unless the run, whose adapter goes to `out`, can be trained on from `start`."""
    if start is None:
        return
    fault = run.method.start_fault(run, start)
    if start.folder.resolve().parent != out.resolve().parent:
        fault = f"lies at {start.folder}, not beside {out}"
    if fault:
        raise InputError(f'{run.label}: start_from "{start.folder.name}" {fault}')
