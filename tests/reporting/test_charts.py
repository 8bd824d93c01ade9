"""Charts, scorecard and the most and least alike, by what they say of scores that are known."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.reporting.charts import spread_out
from limner.reporting.columns import Column, make_columns
from limner.reporting.estimates import BOTH, INTERVALS, SPREADS, Estimate, bars_sentence, estimate
from limner.reporting.extremes import extremes
from limner.reporting.findings import PictureScores
from limner.reporting.pictures import Gallery
from limner.reporting.plates import make_plate
from limner.reporting.rank_chart import rank_chart
from limner.reporting.scorecard import scorecards
from limner.reporting.trade_off import Point, front_of, trade_off_chart
from limner.statistics import critical_t, surpassed_by
from tests.recorded import photo
from tests.reporting.made_up import LIKENESS, MANY, RAW, write_run


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("many") / "run", raw=MANY)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("few") / "run", raw=RAW)


def known(made):
    return PictureScores(made.scores), make_columns(made.study, made.renders.cells)


def at(value: float) -> Estimate:
    return Estimate(value, value, value, "interval", 3)


def point(name: str, fidelity: float, likeness: float) -> Point:
    return Point(Column(name, "", (name,)), at(fidelity), at(likeness))


def test_the_front_has_what_no_variant_surpasses_and_never_the_base():
    points = [point("base", 0.9, 0.9), point("a", 0.1, 0.8), point("b", 0.2, 0.5), point("c", 0.15, 0.4)]
    assert [p.column.name for p in front_of(points)] == ["a", "b"]
    assert front_of(points[:2]) == []


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_whatever_is_surpassed_is_so_by_a_member_of_the_front(means):
    behind = surpassed_by(means)
    for name, other in behind.items():
        assert all(theirs >= own for theirs, own in zip(means[other], means[name], strict=True))
        assert means[other] != means[name]
    front = means.keys() - behind.keys()
    for one, other in itertools.permutations(front, 2):
        assert means[one] == means[other] or means[one][0] > means[other][0] or means[one][1] > means[other][1]
    assert bool(front) == bool(means)


def test_bars_are_student_intervals_over_three_training_seeds(many):
    scores, columns = known(many)
    column = next(c for c in columns if c.name == "lora-4")
    found = estimate(column, many.renders.cells, scores, LIKENESS)
    assert found
    by_seed = {label: [] for label in column.labels}
    for cell in many.renders.cells:
        if cell.variant in by_seed and (value := scores.value(cell, LIKENESS)) is not None:
            by_seed[cell.variant].append(value)
    means = [sum(values) / len(values) for values in by_seed.values()]
    mean = sum(means) / 3
    error = math.sqrt(sum((m - mean) ** 2 for m in means) / 2 / 3)
    assert found.kind == "interval"
    assert (found.mean, found.low) == pytest.approx((mean, mean - critical_t(0.05, 2) * error))


def test_the_caption_says_what_the_bars_are(few, many):
    assert bars_sentence([at(1.0)]) == INTERVALS
    for made, said in ((few, SPREADS), (many, BOTH)):
        scores, columns = known(made)
        cells = made.renders.cells
        chart = trade_off_chart(columns, cells, cells, scores)
        assert chart
        assert said in chart.caption
        assert "no variant surpasses" in chart.caption
        assert chart.svg.count("front-line") == 1


def test_a_prompt_that_is_left_out_moves_likeness_alone(few):
    scores, columns = known(few)
    cells = few.renders.cells
    fit = [cell for cell in cells if cell.prompt != "pencil"]
    whole, part = trade_off_chart(columns, cells, cells, scores), trade_off_chart(columns, cells, fit, scores)
    assert whole
    assert part
    assert whole.svg.count("<circle") == 2 * part.svg.count("<circle")
    assert rank_chart(columns, fit, scores) != rank_chart(columns, cells, scores)


def test_the_most_and_least_alike_are_ordered_apart_and_without_the_base(many):
    scores, columns = known(many)
    photos = [photo(f"images/photos/{i:04}.png", source=f"IMG_{i}.jpg") for i in range(5)]
    found = extremes(many.renders, many.renders.cells, columns, scores, Gallery(), photos)
    assert found
    best, worst = ([each.likeness for each in part] for part in (found.most, found.least))
    assert len(best) == len(worst) == 10
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    assert best[-1] >= worst[-1]
    assert not any(each.shown.column.is_base for each in (*found.most, *found.least))
    assert [each.ranking for each in found.least] == list(range(found.count, found.count - 10, -1))
    for each in found.most:
        if each.copied:
            assert each.copied.similarity > each.copied.limit
            assert each.copied.file == f"images/photos/{int(each.seed.split()[1].rstrip(',')) % 5:04}.png"
    assert any(each.copied for each in found.most)
    assert not any(each.copied for each in found.least)


def test_a_scorecard_has_every_scale_and_draws_it_where_there_are_several(few, many):
    for made, scales, charts in ((few, ["scale 1"], 0), (many, ["scale 0.4", "scale 0.7", "scale 1"], 2)):
        scores, columns = known(made)
        plate = make_plate(made.controls, columns, scores, Gallery(), "control")
        cards = scorecards(plate, columns, made.controls.cells, scores)
        assert [card.name for card in cards] == ["lady", "lord"]
        for card in cards:
            assert (card.scales, len(card.charts)) == (scales, charts)
            assert all(len(means) == len(scales) for _, means in card.rows)
    full = next(means for column, means in cards[0].rows if column.name == "dreambooth")
    assert [pair[0].mean for pair in full] == sorted(pair[0].mean for pair in full)  # drawn to rise with the scale


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted), st.floats(1, 8))
def test_names_at_the_end_of_lines_keep_their_order_and_distance(places, apart):
    moved = spread_out(places, apart, 0, 100)
    assert all(b - a >= apart - 1e-6 for a, b in itertools.pairwise(moved))
    assert min(moved) >= -1e-6
    assert max(moved) <= 100 + 1e-6
