"""Subjects are the clusters: truths that are planted are found, and twins are not told apart."""

from __future__ import annotations

import numpy as np
import pytest

from limner.statistics import Described, Estimated, Sweep, Variant
from limner.statistics.findings import AgainstBase, NotConcluded, OverLimit, Pair, PromptsLeftOut, RankTrend
from limner.statistics.pooling import SubjectScores, pool, pooled_table, spread

LIKENESS = "likeness/model"
SWEEP = Sweep("the rest", "alpha = rank")
VARIANTS = [Variant("base", {}), *(Variant(f"lora-{r}", {}, r, 1e-4, SWEEP) for r in (1, 4, 16, 128))]


def made_up(effects, *, subjects=8, seeds=3, seed=0, scatter=0.02, prompts=("photo", "sketch"), power=None):
    """Subjects whose base scores differ much, whose variants gain `effects`, with scatter by subject and by seed."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(subjects):
        own = rng.normal(0.4, 0.1)
        values = {"base": {"": {prompt: own for prompt in prompts}}}
        for variant, effect in effects.items():
            by_subject = rng.normal(0, scatter)
            values[variant] = {
                str(s): {prompt: own + effect + by_subject + rng.normal(0, scatter) for prompt in prompts}
                for s in range(seeds)
            }
        powers = {LIKENESS: power or dict.fromkeys(prompts, 0.9)}
        made.append(SubjectScores(f"cat {number}", {LIKENESS: values}, {LIKENESS: own + 0.4}, powers))
    return made


def _of(kind, conclusions):
    return [finding for finding in conclusions if isinstance(finding, kind)]


def test_a_planted_difference_is_shown_though_subjects_differ_much_more():
    pair = _of(Pair, pool(made_up({"full": 0.3, "lora-1": 0.1}), []))[0]
    assert pair.difference.is_shown
    assert pair.difference.training_seeds == 8
    assert pair.difference.difference == pytest.approx(0.2, abs=0.04)
    assert pair.difference.span_share == pytest.approx(0.5, abs=0.1)
    assert pair.difference.degrees_of_freedom == 7


def test_twins_are_told_apart_in_no_more_than_16_of_200():
    found = [_of(Pair, pool(made_up({"one": 0.1, "other": 0.1}, seed=n), []))[0].difference for n in range(200)]
    assert sum(difference.is_shown for difference in found) <= 16


def test_many_training_seeds_do_not_make_subjects():
    findings = pool(made_up({"full": 0.3, "lora-1": 0.1}, subjects=2, seeds=20), [])
    assert all(isinstance(each.difference, Described) for each in _of(Pair, findings) + _of(AgainstBase, findings))


def test_an_effect_in_one_subject_alone_is_not_shown():
    subjects = made_up({"full": 0.1, "lora-1": 0.1}, scatter=0.001)
    for means in subjects[0].values[LIKENESS]["full"].values():
        means.update(dict.fromkeys(means, 0.99))
    assert not _of(Pair, pool(subjects, []))[0].difference.is_shown


def test_prompts_under_whose_style_the_embedding_is_blind_are_left_out():
    subjects = made_up({"full": 0.3}, power={"photo": 0.9, "sketch": 0.3})
    for subject in subjects:
        for means in subject.values[LIKENESS]["full"].values():
            means["sketch"] = -1.0
    findings = pool(subjects, [])
    assert _of(PromptsLeftOut, findings)[0].shares == {"sketch": pytest.approx(0.3)}
    assert _of(AgainstBase, findings)[0].difference.difference == pytest.approx(0.3, abs=0.04)
    blind = pool(made_up({"full": 0.3}, power={"photo": 0.2, "sketch": 0.3}), [])
    assert _of(NotConcluded, blind)[0].reason == "no power"
    assert not _of(AgainstBase, blind)


def test_the_trend_is_over_low_ranks_and_once_more_over_all():
    effects = {f"lora-{rank}": 0.05 * np.log2(rank) for rank in (1, 4, 16, 128)}
    trends = _of(RankTrend, pool(made_up(effects), VARIANTS, not_low=["lora-128"]))
    assert [trend.ranks for trend in trends] == [(1, 4, 16), (1, 4, 16, 128)]
    assert all(trend.slope.is_shown and trend.slope.difference == pytest.approx(0.05, abs=0.01) for trend in trends)
    assert len(_of(RankTrend, pool(made_up(effects), VARIANTS))) == 1


def test_scatter_between_subjects_and_between_seeds_is_kept_apart():
    subjects = made_up({"full": 0.1}, subjects=40, scatter=0.03)
    _, table = pooled_table(subjects, LIKENESS)
    assert table is not None
    found = spread(subjects, table, "full")
    assert found.between_subjects == pytest.approx(0.1, abs=0.03)  # what the subjects' own levels differ by
    assert found.within_subjects == pytest.approx(0.03 / 2**0.5, abs=0.006)  # of means over two prompts
    assert isinstance(found.overall, Estimated)


def test_copies_are_added_up_over_subjects():
    copies = {"copying/model": {"base": (0, 8), "full": (2, 24)}}
    subjects = [SubjectScores(str(n), {}, copies=copies) for n in range(3)]
    found = _of(OverLimit, pool(subjects, []))[0]
    assert found.over == {"full": (6, 72)}
    assert found.base == (0, 24)
