"""From the study's variants to single runs: one for each rank and training seed, labelled as their folders are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from limner.config.training_settings import FullVariant, LoraVariant


@dataclass(frozen=True)
class VariantRun:
    """One adapter to be trained: a variant at one rank and one training seed."""

    label: str
    variant: FullVariant | LoraVariant
    rank: int | None
    training_seed: int
    start_from: str

    @property
    def alpha(self) -> float | None:
        """LoRA's stored alpha; None for a full variant."""
        return self.variant.alpha_for(self.rank) if isinstance(self.variant, LoraVariant) and self.rank else None


def expand_variants(variants: Sequence[FullVariant | LoraVariant]) -> list[VariantRun]:
    """One run for each rank and training seed, in the study's order, labelled as the run's folders are."""
    return [run for variant in variants for run in _runs_of(variant, variants)]


def _runs_of(variant: FullVariant | LoraVariant, variants: Sequence[FullVariant | LoraVariant]) -> Iterator[VariantRun]:
    ranks: list[int | None] = list(variant.rank) if isinstance(variant, LoraVariant) else [None]
    for rank in ranks:
        for seed in variant.training_seeds:
            stem = variant_stem(variant, rank)
            label = f"{stem}@{seed}" if len(variant.training_seeds) > 1 else stem
            start = variant.start_from
            several = any(len(v.training_seeds) > 1 and start in variant_stems(v) for v in variants)
            yield VariantRun(label, variant, rank, seed, f"{start}@{seed}" if start and several else start)


def variant_stem(variant: FullVariant | LoraVariant, rank: int | None) -> str:
    """A variant's name without its training seed: its name or method, and `lora-RANK` in a sweep or unnamed."""
    if rank is None or not isinstance(variant, LoraVariant):
        return variant.name or variant.method
    if variant.name is None:
        return f"lora-{rank}"
    return f"{variant.name}-lora-{rank}" if len(variant.rank) > 1 else variant.name


def variant_stems(variant: FullVariant | LoraVariant) -> list[str]:
    """The names of a variant's runs without their training seeds: what `start_from` may name."""
    ranks: list[int | None] = list(variant.rank) if isinstance(variant, LoraVariant) else [None]
    return [variant_stem(variant, rank) for rank in ranks]


OWN_IN_A_STACK = {
    "name", "rank", "alpha", "alpha_rule", "learning_rate", "learning_rate_schedule", "warmup_steps", "training_seeds",
    "validation",
}  # fmt: skip


def stacks_of(runs: Sequence[VariantRun]) -> list[list[VariantRun]]:
    """Runs that can be trained in one pass together, in the order of each stack's first run.

    Those are LoRAs from the same start that differ in nothing but rank, alpha, learning rate and its schedule, and
    training seed. A full variant is trained alone, and so is a LoRA with 8-bit moments: their blocks would depend on
    the ranks beside it.
    """
    stacks: dict[str, list[VariantRun]] = {}
    for run in runs:
        shared = run.variant.model_dump_json(exclude=OWN_IN_A_STACK)
        alone = isinstance(run.variant, FullVariant) or run.variant.optimizer == "adamw8bit"
        stacks.setdefault(f"{run.label if alone else ''} {run.start_from} {shared}", []).append(run)
    return list(stacks.values())
