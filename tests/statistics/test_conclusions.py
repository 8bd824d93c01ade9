"""From a record of scores to findings, on studies whose answer is known by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from limner import statistics
from limner.statistics import Described, Estimated, Sweep, Variant
from limner.statistics.findings import (
    AgainstBase,
    FewSeeds,
    Front,
    MeanScore,
    NotConcluded,
    OverLimit,
    Pair,
    PowerUnknown,
    PromptsLeftOut,
    RankTrend,
    difference_of,
)
from tests.recorded import scores_record

LIKENESS, FIDELITY, COPYING = "likeness/dino", "prompt_fidelity/clip", "copying/dino"
SWEEP = Sweep("attention, 500 steps", "alpha = rank")
BASE = Variant("base", {"base": None})
LEVELS = {  # likeness, prompt fidelity, nearness to a photo
    "base": (0.30, 0.30, 0.40),
    "paster": (0.78, 0.15, 0.99),  # pastes training photos
    "good": (0.70, 0.29, 0.70),
    "twin": (0.70, 0.29, 0.70),
    "blind": (0.30, 0.31, 0.40),  # ignores the subject
}


def variant(name: str, seeds: int, **more: Any) -> Variant:
    return Variant(name, {f"{name}@{seed}": seed for seed in range(seeds)}, **more)


def row(label: str, prompt: str, seed: int, metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    return {"variant": label, "prompt": prompt, "reference": None, "seed": seed, "image_index": 0} | {
        "metric": metric, "value": value, **more,
    }  # fmt: skip


def record_of(variants: list[Variant], levels: dict[str, tuple[float, ...]], **anchors: Any) -> dict[str, Any]:
    rng, rows = np.random.default_rng(5), []
    for each in variants:
        for label in each.labels:
            luck = rng.normal(0, 0.004) if each is not BASE else 0.0
            for metric, level in zip((LIKENESS, FIDELITY, COPYING), levels[each.name], strict=True):
                for prompt in ("garden", "pencil"):
                    for seed in (1, 2, 3):
                        rows.append(row(label, prompt, seed, metric, level + luck + rng.normal(0, 0.004)))
    likeness = {"ceiling": 0.8, "floor": 0.3, "power": {"garden": 0.95, "pencil": 0.7}, **anchors}
    found = {LIKENESS: likeness, FIDELITY: {"ceiling": None, "floor": None}, COPYING: {"ceiling": 0.9, "floor": 0.4}}
    return {"rows": rows, "anchors": found}


def of_others(real: bool) -> dict[str, Any]:
    return {"origin": "class images", "pictures": 8, "real": real}


def conclude(record: dict[str, Any], variants: list[Variant]) -> Any:
    return statistics.conclude(scores_record(**record), variants)


def named(record: dict[str, Any], variants: list[Variant], kind: type) -> list[Any]:
    return [finding for finding in conclude(record, variants) if isinstance(finding, kind)]


@pytest.fixture(scope="module")
def variants() -> list[Variant]:
    return [BASE, *(variant(name, 3) for name in LEVELS if name != "base")]


def test_variants_known_by_construction_are_told_right(variants):
    record = record_of(variants, LEVELS)
    shown = {
        (p.metric, p.first, p.second): p.difference.difference > 0
        for p in named(record, variants, Pair)
        if isinstance(p.difference, Estimated) and p.difference.is_shown
    }
    assert shown[LIKENESS, "good", "blind"]
    assert shown[LIKENESS, "paster", "good"]
    assert not shown[FIDELITY, "paster", "good"]
    assert (LIKENESS, "good", "twin") not in shown
    assert (FIDELITY, "good", "twin") not in shown
    gained = {a.variant for a in named(record, variants, AgainstBase) if a.metric == LIKENESS and a.difference.is_shown}
    assert gained == {"paster", "good", "twin"}
    (copying,) = named(record, variants, OverLimit)
    assert copying.over == {"paster": (18, 18), "good": (0, 18), "twin": (0, 18), "blind": (0, 18)}
    assert copying.base == (0, 6)
    (front,) = named(record, variants, Front)
    assert {"paster", "blind"} <= set(front.members)
    assert len(front.members) == 3  # one twin surpasses the other by chance, or none does in both
    assert not named(record, variants, FewSeeds)


def test_effects_are_in_units_of_the_span_and_families_are_corrected_together(variants):
    record = record_of(variants, LEVELS)
    pair = next(p for p in named(record, variants, Pair) if (p.first, p.second) == ("paster", "blind"))
    assert pair.difference.span_share == pytest.approx(0.47 / 0.5, abs=0.03)
    assert pair.difference.family == 6
    against = next(a for a in named(record, variants, AgainstBase) if a.metric == FIDELITY)
    assert against.difference.family == 4
    assert against.difference.span_share is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_training_seeds_are_only_described(seeds):
    few = [BASE, *(variant(name, seeds) for name in ("good", "twin"))]
    findings = conclude(record_of(few, LEVELS), few)
    assert FewSeeds(seeds, ("good", "twin"), of_all=True) in findings.findings
    assert not any(isinstance(difference_of(each), Estimated) for each in findings)
    assert all(isinstance(f.difference, Described) for f in findings if isinstance(f, Pair | AgainstBase))


def test_a_variant_of_one_seed_is_described_beside_others_that_are_tested():
    mixed = [BASE, variant("good", 3), variant("twin", 3), variant("blind", 1)]
    record = record_of(mixed, LEVELS)
    assert named(record, mixed, FewSeeds) == [FewSeeds(1, ("blind",), of_all=False)]
    kinds = {(p.first, p.second): type(p.difference) for p in named(record, mixed, Pair) if p.metric == LIKENESS}
    assert kinds == {("good", "twin"): Estimated, ("good", "blind"): Described, ("twin", "blind"): Described}
    assert {p.difference.family for p in named(record, mixed, Pair) if isinstance(p.difference, Estimated)} == {1}


def test_prompts_in_whose_style_the_embedding_is_weak_are_left_out_of_likeness_alone(variants):
    record = record_of(variants, LEVELS, power={"garden": 0.96, "pencil": 0.59})
    assert named(record, variants, PromptsLeftOut) == [PromptsLeftOut(LIKENESS, {"pencil": 0.59})]
    pictures = {p.metric: p.difference.pictures for p in named(record, variants, Pair)}
    assert pictures[LIKENESS] == 9
    assert pictures[FIDELITY] == 18


def test_without_power_anywhere_or_a_ceiling_or_values_nothing_is_said_of_likeness(variants):
    for anchors, reason in (
        ({"power": {"garden": 0.3, "pencil": 0.43}}, "no power"),
        ({"ceiling": None}, "no ceiling"),
    ):
        record = record_of(variants, LEVELS, **anchors)
        assert NotConcluded(LIKENESS, reason) in named(record, variants, NotConcluded)
        assert not [p for p in named(record, variants, Pair | AgainstBase | RankTrend) if p.metric == LIKENESS]  # pyright: ignore
        assert not named(record, variants, Front)
    empty = {"rows": [], "anchors": {}}
    assert named(empty, variants, NotConcluded) == [
        NotConcluded("likeness", "no values"), NotConcluded("prompt_fidelity", "no values"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("power", "said"),
    [
        ({}, [PowerUnknown(LIKENESS, ("garden", "pencil"), True)]),
        ({"garden": 0.9, "pencil": None}, [PowerUnknown(LIKENESS, ("pencil",), False)]),
        ({"garden": 0.9, "pencil": 0.6}, []),
    ],
)
def test_a_power_that_was_not_measured_is_said_to_be_unknown(variants, power, said):
    assert named(record_of(variants, LEVELS, power=power), variants, PowerUnknown) == said


def lora(rank: int, rate: float = 1e-4, sweep: Sweep = SWEEP, name: str = "") -> Variant:
    return variant(name or f"lora-{rank}", 3, rank=rank, learning_rate=rate, sweep=sweep)


@pytest.mark.parametrize("real", [True, False])
def test_beside_renders_a_style_s_power_is_a_bound_that_can_only_rule_out(variants, real):
    styles = {"garden": [], "pencil": ["pencil sketch"]}
    record = record_of(variants, LEVELS, power_styles=styles, power_others=of_others(real))
    unknown = named(record, variants, PowerUnknown)
    assert unknown == ([] if real else [PowerUnknown(LIKENESS, ("pencil",), of_all=False)])
    weak = record_of(
        variants,
        LEVELS,
        power={"garden": 0.9, "pencil": 0.5},
        power_styles=styles,
        power_others=of_others(real),
    )
    assert named(weak, variants, PromptsLeftOut) == [PromptsLeftOut(LIKENESS, {"pencil": 0.5})]


def test_a_sweep_has_a_trend_under_its_alpha_rule():
    ranks = [BASE, *(lora(rank) for rank in (1, 4, 16))]
    levels = {"base": LEVELS["base"]} | {f"lora-{r}": (0.4 + 0.02 * r**0.5, 0.3, 0.5) for r in (1, 4, 16)}
    trends = named(record_of(ranks, levels), ranks, RankTrend)
    likeness = next(t for t in trends if t.metric == LIKENESS)
    assert (likeness.ranks, likeness.sweep.alpha_rule, likeness.learning_rate) == ((1, 4, 16), "alpha = rank", 1e-4)
    assert isinstance(likeness.slope, Estimated)
    assert likeness.slope.is_shown
    assert likeness.slope.difference == pytest.approx(0.015, abs=0.004)
    assert likeness.slope.family == 1


def test_learning_rates_and_alpha_rules_have_trends_of_their_own_and_a_tuned_one():
    fixed = Sweep("attention, 500 steps", "alpha fixed", 8.0)
    kinds = [(1, 1e-4, SWEEP), (1, 1e-3, SWEEP), (4, 1e-4, SWEEP), (4, 1e-3, SWEEP), (1, 1e-4, fixed), (4, 1e-4, fixed)]
    variants = [BASE, *(lora(*kind, name=f"v{place}") for place, kind in enumerate(kinds))]
    levels = {"base": LEVELS["base"]} | {f"v{i}": (0.4 + 0.05 * i, 0.3, 0.5) for i in range(6)}
    trends = [t for t in named(record_of(variants, levels), variants, RankTrend) if t.metric == LIKENESS]
    assert [(t.sweep.alpha_rule, t.learning_rate) for t in trends] == [
        ("alpha = rank", 1e-4), ("alpha = rank", 1e-3), ("alpha = rank", None), ("alpha fixed", 1e-4),
    ]  # fmt: skip
    assert trends[2].slope.difference == pytest.approx((0.55 - 0.45) / 2, abs=0.01)  # v3 less v1: the better rates
    assert {t.slope.family for t in trends} == {4}


def test_pictures_of_references_and_values_that_are_missing_are_not_read(variants):
    record = record_of(variants, LEVELS)
    before = conclude(record, variants)
    record["rows"] += [
        row("good@0", "portrait", 1, LIKENESS, 9.0, reference="lady"),
        row("good@1", "third", 1, LIKENESS, None),
        row("stranger", "garden", 1, LIKENESS, 9.0),
    ]
    assert conclude(record, variants) == before


def more(metric: str, level: dict[str, float], variants: list[Variant], **cell: Any) -> list[dict[str, Any]]:
    """Rows of one metric at these levels, with a little luck for each training seed and picture."""
    rng = np.random.default_rng(6)
    return [
        row(label, "class", seed, metric, level[each.name] + rng.normal(0, 0.004), **cell)
        for each in variants if each.name in level for label in each.labels for seed in (1, 2, 3)
    ]  # fmt: skip


def test_drift_has_means_with_intervals_and_pairs_and_no_test_against_the_base(variants):
    levels = {"paster": 0.5, "good": 0.2, "twin": 0.2, "blind": 0.01}
    record = record_of(variants, LEVELS)
    record["rows"] += more("drift/dino", levels, variants)
    means = {m.variant: m.mean for m in named(record, variants, MeanScore)}
    assert {name: round(mean.value, 1) for name, mean in means.items()} == {**levels, "blind": 0.0}
    for name, mean in means.items():
        assert mean.interval
        assert mean.interval[0] < levels[name] < mean.interval[1]
    assert not [a for a in named(record, variants, AgainstBase) if a.metric == "drift/dino"]
    shown = {(p.first, p.second) for p in named(record, variants, Pair) if p.metric == "drift/dino" and (
        isinstance(p.difference, Estimated) and p.difference.is_shown)}  # fmt: skip
    assert ("paster", "good") in shown
    assert ("good", "twin") not in shown


def test_class_likeness_has_the_span_of_likeness_and_is_silent_without_its_ceiling(variants):
    levels = {"base": 0.3, "paster": 0.6, "good": 0.31, "twin": 0.3, "blind": 0.3}
    rows = more("class_likeness/dino", levels, variants)
    record = record_of(variants, LEVELS)
    record["rows"] += rows
    against = {a.variant: a.difference for a in named(record, variants, AgainstBase) if a.metric.startswith("class")}
    assert against["paster"].span_share == pytest.approx(0.3 / 0.5, abs=0.05)
    without = record_of(variants, LEVELS, ceiling=None)
    without["rows"] += rows
    assert NotConcluded("class_likeness/dino", "no ceiling") in named(without, variants, NotConcluded)


def test_edge_agreement_is_read_from_references_alone_and_paired_by_scale(variants):
    levels = {"base": 0.7, "paster": 0.4, "good": 0.7, "twin": 0.7, "blind": 0.7}
    record = record_of(variants, LEVELS)
    for scale in (0.5, 1.0):
        shift = {name: level + scale for name, level in levels.items()}
        record["rows"] += more("edge_agreement", shift, variants, reference="lady", conditioning_scale=scale)
    record["rows"] += more("edge_agreement", dict.fromkeys(levels, 99.0), variants)  # no reference: not read
    against = {a.variant: a.difference for a in named(record, variants, AgainstBase) if a.metric == "edge_agreement"}
    assert against["paster"].difference == pytest.approx(-0.3, abs=0.02)
    assert against["paster"].pictures == 3 * 2 * 3
    assert [a.variant for a in named(record, variants, AgainstBase) if a.metric == "edge_agreement"
            and isinstance(a.difference, Estimated) and a.difference.is_shown] == ["paster"]  # fmt: skip
