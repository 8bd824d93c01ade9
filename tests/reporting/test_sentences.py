"""Sentences in both languages: every kind of finding has one, with its figures, and no more than it carries."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.config import resolve_study
from limner.metrics import all_metrics
from limner.reporting.columns import Column, make_columns
from limner.reporting.conclusions import concluded, study_variants
from limner.reporting.findings import PictureScores
from limner.reporting.glossary import TRAINING_SEED
from limner.reporting.language import Language
from limner.reporting.phrases import PHRASES
from limner.reporting.sentences import Speaker
from limner.statistics import Described, Estimated, Mean, Sweep
from limner.statistics.findings import (
    AgainstBase,
    Conclusions,
    FewSeeds,
    Front,
    MeanScore,
    NotConcluded,
    OverLimit,
    Pair,
    PowerUnknown,
    PromptsLeftOut,
    RankTrend,
)
from tests.reporting.made_up import MANY, RAW, write_run

LIKENESS, FIDELITY = "likeness/dino", "prompt_fidelity/clip"
EN, RU = Speaker(Language("en")), Speaker(Language("ru"))
SWEEP = Sweep("", "alpha = rank")


def estimated(difference: float, error: float, adjusted_p: float, family: int = 6, level: float = 0.05) -> Estimated:
    return Estimated(difference, 0.5, 5, 40, error, 4, "paired", adjusted_p / family, adjusted_p, level, family)


SHOWN, HIDDEN = estimated(-0.12, 0.01, 0.004), estimated(0.0104, 0.01, 0.5)
SEEN = Described(-0.2, 0.5, 1, 8, "few seeds")
FINDINGS = [
    NotConcluded("likeness", "no values"),
    NotConcluded(LIKENESS, "no ceiling"),
    NotConcluded(LIKENESS, "no power"),
    PromptsLeftOut(LIKENESS, {"pencil": 0.3, "pixel": 0.43}),
    PowerUnknown(LIKENESS, ("garden",), True),
    PowerUnknown(LIKENESS, ("garden", "street"), False),
    FewSeeds(2, ("full", "lora-1"), True),
    FewSeeds(1, ("full",), False),
    AgainstBase(LIKENESS, "full", SHOWN),
    AgainstBase(LIKENESS, "full", HIDDEN),
    Pair(LIKENESS, "full", "lora-1", SHOWN),
    Pair(FIDELITY, "full", "lora-1", HIDDEN),
    Pair(LIKENESS, "full", "lora-1", Described(-0.2, None, 3, 8, "no spread")),
    RankTrend(LIKENESS, (1, 4, 16), SWEEP, 1e-4, SHOWN),
    RankTrend(LIKENESS, (1, 4), Sweep("", "alpha fixed", 8.0), None, HIDDEN),
    RankTrend(LIKENESS, (1, 4), Sweep("", "alpha/sqrt(rank)"), 0.002, SEEN),
    RankTrend(LIKENESS, (1, 4), Sweep("", "alpha = rank", None, 0.6), 0.002, SHOWN),
    MeanScore("drift/dino", "full", Mean(0.31, (0.28, 0.34), 3, 12)),
    MeanScore("drift/dino", "full", Mean(0.31, None, 1, 4)),
    *(AgainstBase(metric, "full", SHOWN) for metric in ("class_likeness/dino", "diversity/dino", "edge_agreement")),
    OverLimit("copying/dino", {"full": (3, 24), "lora-1": (0, 21)}, (0, 1)),
    OverLimit("copying/dino", {"full": (0, 24)}, None),
    Front(LIKENESS, FIDELITY, {"full": (0.7, 0.29)}, {"lora-1": "full"}),
]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: type(finding).__name__)
def test_every_finding_is_said_whole_in_both_languages_with_the_same_figures(finding):
    said = [speaker.sentence(finding) for speaker in (EN, RU)]
    for sentence in said:
        assert sentence.endswith(".")
        assert not re.search(r"[{}]|  |\(\)|;\.|None", sentence)
        assert sentence[0] == sentence[0].upper() or sentence.startswith(("full", "lora"))
    assert re.search("[а-я]", said[1])
    assert not re.search("[а-я]", said[0])
    if not isinstance(finding, FewSeeds):  # whose English numerals are words
        figures = [sorted(re.findall(r"[−+]?\d+[.,]?\d*", sentence.replace(". ", " "))) for sentence in said]
        assert sorted(f.rstrip(".,") for f in figures[0]) == sorted(
            f.rstrip(".,").replace(",", ".") for f in figures[1]
        )


def test_every_phrase_and_meaning_is_there_in_both_languages():
    for written in (
        PHRASES,
        {"training seed": TRAINING_SEED},
        *({metric.name: metric.words} for metric in all_metrics()),
    ):
        for key, phrases in written.items():
            assert set(phrases) == {"en", "ru"}, key
    for key, phrases in PHRASES.items():
        fields = [set(re.findall(r"{(\w+)}", phrases[code].replace("{Metric}", "{metric}"))) for code in ("en", "ru")]
        if key != "few seeds":
            assert fields[0] == fields[1], key


def test_the_sentences_of_a_difference_read_as_they_should():
    assert EN.sentence(Pair(LIKENESS, "full", "lora-1", SHOWN)) == (
        "Likeness is higher for lora-1 than for full, by 0.120 (24% of the span from floor to ceiling); 95% interval "
        "0.092 to 0.148, p = 0.004 corrected for 6 comparisons (5 training seeds, 40 pictures)."
    )
    assert RU.sentence(AgainstBase(LIKENESS, "full", SHOWN)) == (
        "Сходство у базовой модели выше, чем у full, на 0,120 (24\u00a0% размаха между ориентирами); доверительный "
        "интервал уровня 95\u00a0%: от 0,092 до 0,148, p = 0,004 с поправкой на 6 сравнений (5 запусков обучения, 40 "
        "изображений)."
    )
    assert EN.sentence(Pair(FIDELITY, "full", "lora-1", HIDDEN)) == (
        "No difference in prompt fidelity between full and lora-1 could be shown (difference +0.010, 95% interval "
        "−0.017 to 0.038; a difference of 0.038 or more would have been found with 80% power)."
    )
    assert RU.sentence(AgainstBase(LIKENESS, "full", HIDDEN)).startswith(
        "Разницы между full и базовой моделью по показателю «сходство» выявить не удалось (разность +0,010, "
    )


def test_what_is_only_described_is_one_sentence_a_metric_and_says_nothing_of_pairs():
    against = [AgainstBase(LIKENESS, f"lora-{r}", Described(r / 100, 0.5, 1, 8, "few seeds")) for r in range(1, 9)]
    pair = Pair(LIKENESS, "lora-1", "lora-2", SEEN)
    assert EN.sentences(Conclusions((*against, pair))) == [
        "Mean difference in likeness from the base’s picture of the same prompt and seed, from highest to lowest: "
        "lora-8 +0.080 (16% of the span), lora-7 +0.070 (14% of the span), lora-6 +0.060 (12% of the span), lora-5 "
        "+0.050 (10% of the span), lora-4 +0.040 (8% of the span), two others between and last lora-1 +0.010 (2% of "
        "the span)."
    ]


def test_means_from_the_base_are_one_sentence_from_highest_to_lowest():
    means = [
        MeanScore("drift/dino", "lora-1", Mean(0.1, None, 1, 4)),
        MeanScore("drift/dino", "full", Mean(0.31, (0.28, 0.34), 3, 12)),
    ]
    assert EN.sentences(Conclusions(tuple(means))) == [
        "Mean drift, from highest to lowest: full 0.310 (95% interval 0.280 to 0.340) and lora-1 0.100."
    ]


def test_two_sweeps_that_differ_in_strength_are_told_apart():
    full, half = (RankTrend(LIKENESS, (1, 4), Sweep("", "alpha = rank", None, s), 1e-4, SHOWN) for s in (1.0, 0.5))
    assert "strength" not in EN.sentence(full)
    assert "rendered at strength 0.5" in EN.sentence(half)


def test_the_headline_has_of_class_drift_and_edges_only_what_is_shown():
    seen = Described(0.2, None, 1, 8, "few seeds")
    conclusions = Conclusions((
        AgainstBase("edge_agreement", "a", SHOWN), AgainstBase("edge_agreement", "b", HIDDEN),
        AgainstBase("diversity/dino", "a", seen), NotConcluded("class_likeness/dino", "no ceiling"),
        MeanScore("drift/dino", "a", Mean(0.3, None, 1, 4)),
    ))  # fmt: skip
    assert EN.headline(conclusions) == [EN.sentence(conclusions.findings[0])]


def test_the_headline_puts_what_is_shown_first_and_the_seeds_last():
    weak, strong = (Pair(LIKENESS, "a", b, estimated(d, 0.01, 0.01)) for b, d in (("weak", 0.1), ("strong", 0.4)))
    other = Pair("likeness/clip", "a", "third", SHOWN)
    few = FewSeeds(1, ("b",), False)
    hidden = [Pair(LIKENESS, "a", f"h{i}", HIDDEN) for i in range(9)]
    said = EN.headline(Conclusions((few, *hidden, weak, strong, other)))
    assert len(said) == 6
    assert [("strong" in said[0]), ("weak" in said[1]), said[-1]] == [True, True, EN.sentence(few)]
    assert not any("third" in sentence for sentence in said)


def test_the_headline_tells_one_of_each_kind_before_a_second(tmp_path):
    half = Sweep("", "alpha = rank", None, 0.5)
    trends = [RankTrend(m, (1, 4), sweep, 1e-4, SHOWN) for m in (LIKENESS, FIDELITY) for sweep in (SWEEP, half)]
    pairs = [Pair(LIKENESS, "a", b, estimated(d, 0.01, 0.01)) for b, d in (("b", 0.3), ("c", 0.4))]
    others = [OverLimit("copying/dino", {"a": (2, 8)}, (0, 8)), AgainstBase(LIKENESS, "a", SHOWN)]
    aside = RankTrend("drift/dino", (1, 4), SWEEP, 1e-4, SHOWN)
    said = EN.headline(Conclusions((aside, *trends, *pairs, *others)))
    assert said == [EN.sentence(each) for each in (trends[0], trends[2], pairs[1], *others, aside)]


@pytest.mark.parametrize(("code", "seen"), [("en", ", as dino sees them."), ("ru", " (по данным dino).")])
def test_where_several_models_see_copying_each_sentence_names_its_own(code, seen):
    several = Speaker(Language(code), frozenset({"copying"}))
    for over in ({"full": (3, 24)}, {"full": (0, 24)}):
        finding = OverLimit("copying/dino", over, None)
        alone = Speaker(Language(code)).sentence(finding)
        assert several.sentence(finding) == alone[:-1] + seen
        assert "dino" not in alone
        by_base = several.sentence(replace(finding, metric="copying/base"))
        assert {"en": "the base’s CLIP", "ru": "CLIP базовой модели"}[code] in by_base


def test_russian_differences_stand_between_two_instrumentals():
    alike = Described(0.1, None, 3, 8, "no spread")
    assert RU.sentence(AgainstBase(LIKENESS, "full", alike)).startswith("Разность между full и базовой моделью по")


def test_an_end_of_an_interval_that_is_not_zero_does_not_read_as_zero():
    found = estimated(0.0042, 0.0014, 0.04)
    low = found.interval[0]
    assert 0 < low < 0.0005
    assert f"interval {low:.4f} to" in EN.sentence(Pair(FIDELITY, "a", "b", found))


def test_metrics_of_one_role_are_told_apart():
    speaker = Speaker(Language("en"), frozenset({"likeness"}))
    assert speaker.sentence(NotConcluded("likeness/facebook/dino", "no ceiling")).startswith("Likeness (dino): ")


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 запуск обучения"), (3, "3 запуска обучения"), (5, "5 запусков обучения"), (11, "11 запусков обучения"),
     (21, "21 запуск обучения"), (112, "112 запусков обучения"), (104, "104 запуска обучения")],
)  # fmt: skip
def test_russian_counts_take_their_forms(count, said):
    assert Language("ru").count(count, "training seed") == said


@given(st.floats(-1e6, 1e6))
def test_numbers_carry_a_true_minus_and_russian_ones_a_comma(value):
    english, russian = Language("en").number(value, signed=True), Language("ru").number(value, signed=True)
    assert russian == english.replace(".", ",")
    assert "-" not in english
    assert (english[0] in "+−") == (round(value, 3) != 0)
    assert float(english.replace("−", "-")) == pytest.approx(value, abs=5.1e-4)


def test_small_probabilities_are_not_zero():
    assert [Language("en").probability(p) for p in (0.0004, 0.0149)] == ["p < 0.001", "p = 0.015"]


def test_a_study_with_several_learning_rates_has_a_trend_at_each_and_a_tuned_one(tmp_path):
    lora = {"method": "lora", "rank": [1, 4, 16], "steps": 30, "training_seeds": [0, 1, 2]}
    variants = [lora | {"name": name, "learning_rate": rate} for name, rate in (("slow", 1e-4), ("fast", 5e-4))]
    made = write_run(tmp_path / "run", raw={**MANY, "variants": variants, "render": RAW["render"]})
    scores = PictureScores(made.scores)
    found = concluded(made.study, make_columns(made.study, made.renders.cells), scores)
    trends = [each for each in found if isinstance(each, RankTrend) and each.metric.startswith("likeness/")]
    assert [each.learning_rate for each in trends] == [1e-4, 5e-4, None]
    assert all(each.ranks == (1, 4, 16) for each in trends)
    assert "learning rate tuned for each rank by the other training seeds" in EN.sentence(trends[2])


def sweeps_of(tmp_path, **variant) -> list[tuple[Column, object]]:
    raw = {"subject": {"photos": "p", "class_noun": "cat"}, "variants": [{"method": "lora", "rank": [2, 8], **variant}]}
    made = write_run(
        tmp_path / "run", raw={**raw, "render": {"size": [64, 64], "prompts": [{"name": "p", "prompt": "p"}]}}
    )
    study = resolve_study(raw, {})
    return [v.sweep for v in study_variants(study, make_columns(study, made.renders.cells)) if v.rank]


@pytest.mark.parametrize(
    ("variant", "rule", "alpha"),
    [
        ({}, "alpha = rank", None),
        ({"alpha": 8}, "alpha fixed", 8.0),
        ({"alpha_rule": "sqrt"}, "alpha/sqrt(rank)", None),
    ],
)
def test_the_alpha_rule_of_a_sweep_is_the_studys(tmp_path, variant, rule, alpha):
    first, second = sweeps_of(tmp_path, **variant)
    assert first == second
    assert (first.alpha_rule, first.alpha) == (rule, alpha)
