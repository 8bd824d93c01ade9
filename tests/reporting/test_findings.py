"""Figures, words and scales, taken by themselves."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.artifacts import Cell, Manifest, ScoreTable, write_scores
from limner.config import resolve_study
from limner.records import MachineRecord
from limner.reporting.columns import RAMPS, make_columns
from limner.reporting.curves import smoothed
from limner.reporting.findings import PictureScores, metric_title, percent, signed, signless, spread
from limner.reporting.markdown import escape_markdown
from limner.reporting.record import duration, origin_of, passes, shown_value
from limner.reporting.svg import place_labels, round_ticks
from tests.recorded import scores_record

finite = st.floats(-1e3, 1e3)


def relative_luminance(colour: str) -> float:
    """WCAG 2's relative luminance of #rrggbb."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((relative_luminance(one), relative_luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_of_a_chart_is_seen_on_its_ground():
    for (pale, deep), (dim, bright) in RAMPS:
        assert min(contrast(pale, "#faf9f6"), contrast(deep, "#faf9f6")) >= 3
        assert min(contrast(dim, "#15171b"), contrast(bright, "#15171b")) >= 3


@given(st.lists(st.one_of(st.none(), finite), max_size=12))
def test_a_spread_is_of_the_values_that_are_there(values):
    known = [value for value in values if value is not None]
    found = spread(values)
    assert (found is None) == (not known)
    if found:
        assert found.count == len(known)
        assert found.mean == pytest.approx(statistics.fmean(known), abs=1e-9)
        assert (found.deviation is None) == (len(known) < 2)


@pytest.fixture
def scores(tmp_path):
    def row(variant, value, seed=1):
        return {
            "variant": variant, "prompt": "p", "reference": None, "seed": seed, "image_index": 0,
            "training_seed": None, "conditioning_scale": None, "metric": "likeness/a/dino", "value": value,
        }  # fmt: skip

    record = {
        "rows": [row("base", 0.3), row("base", None, seed=2), row("full", 0.7), row("full", 0.9, seed=2)],
        "anchors": {"likeness/a/dino": {"ceiling": 0.8, "floor": 0.4, "note": ""}},
    }
    return PictureScores(scores_of(tmp_path / "scores.json", record))


def scores_of(path, record):
    write_scores(path, scores_record(**record))
    return ScoreTable(path)


def test_a_gain_needs_both_pictures_and_a_share_both_anchors(scores):
    study = resolve_study({"subject": {"photos": "p", "class_noun": "cat"}, "variants": [{"method": "full"}]}, {})
    pictures = [(variant, seed) for variant in ("base", "full") for seed in (1, 2)]
    cells = [Cell(variant=variant, prompt="p", seed=seed, image_index=0, file="") for variant, seed in pictures]
    base, full = scores.findings(make_columns(study, cells), cells)
    assert base.gain is None
    assert full.gain is not None
    assert full.gain.count == 1
    assert full.gain.mean == pytest.approx(0.4)
    assert full.shares["likeness/a/dino"] == pytest.approx((0.8 - 0.4) / (0.8 - 0.4))
    assert scores.share("likeness/a/dino", None) is None
    anchors = scores.record.anchors
    anchors["likeness/a/dino"] = anchors["likeness/a/dino"].model_copy(update={"ceiling": 0.4})  # no span
    assert scores.share("likeness/a/dino", 0.5) is None
    assert metric_title("likeness/a/dino", several=True) == "Likeness, dino"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_the_smoothed_loss_stays_among_the_losses_and_starts_at_the_first(values):
    line = smoothed(values)
    assert len(line) == len(values)
    assert line[0] == pytest.approx(values[0])
    assert all(min(values) - 1e-6 <= value <= max(values) + 1e-6 for value in line)


@given(finite, st.floats(1e-3, 1e3))
def test_ticks_are_evenly_spaced_inside_the_range(low, length):
    ticks = round_ticks(low, low + length)
    assert 1 <= len(ticks) <= 11
    assert all(low - 1e-6 * length <= tick <= low + length * (1 + 1e-6) for tick in ticks)
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-5) for gap in gaps)


def test_labels_of_neighbours_do_not_cover_each_other():
    (_, y1, a1), (_, y2, a2) = place_labels([(100, 100), (104, 103)], ["lora-4", "lora-16"], (0, 0, 400, 300))
    assert (round(y1) != round(y2) and abs(y1 - y2) > 10) or a1 != a2


@given(st.text())
def test_escaped_markdown_is_one_line_without_markup(text):
    escaped = escape_markdown(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    stripped = escaped
    for letter in "\\`*_[]|#~":
        stripped = stripped.replace("\\" + letter, "")
    assert not set("`*_[]|#~") & set(stripped)


def test_a_zero_carries_no_sign():
    assert [signless(-0.0001), signed(-0.0001), signed(0.0002), percent(-0.001)] == ["0.000", "0.000", "0.000", "0%"]
    assert [signless(-0.5), signed(0.5), signed(-0.5), percent(-0.04)] == ["−0.500", "+0.500", "−0.500", "−4%"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "not recorded"), (4.21, "4.2 s"), (200, "3 min 20 s"), (3905, "1 h 5 min")]
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_origins_are_found_nested_or_dotted():
    nested = {"render": {"steps": "base"}, "variants": [{"rank": "study"}]}
    assert origin_of(nested, ("render", "steps")) == "base"
    assert origin_of(nested, ("variants", "0", "rank")) == "study"
    assert origin_of({"render.steps": "base"}, ("render", "steps")) == "base"
    assert origin_of(None, ("render", "steps")) == ""
    assert shown_value([1.0, True, None]) == "1, yes, –"


def test_variants_of_one_pass_are_timed_once():
    def made(**record):
        return Manifest("train", 1, "key", {}, {}, {}, MachineRecord(**record))

    found = [("full", made()), ("lora-1", made(trained_with=["lora-4"])), ("lora-4", made(trained_with=["lora-1"]))]
    assert [name for name, _ in passes(found)] == ["full", "lora-1, lora-4"]
