"""What likeness compares of a picture is seen in the report; pictures without a head say so and do not rank."""

from __future__ import annotations

import json

import pytest

from limner.artifacts import ScoreTable, write_scores
from limner.records import HeadSquare, PhotoSquare, ScoresRecord
from limner.reporting import ReportInputs, write_report
from limner.reporting.columns import make_columns
from limner.reporting.extremes import extremes
from limner.reporting.findings import PictureScores
from limner.reporting.pictures import Gallery
from limner.reporting.squares import WHOLE, square_in
from tests.reporting.made_up import write_run
from tests.reporting.reading import Page

KEY = ("variant", "prompt", "reference", "seed", "image_index", "training_seed", "conditioning_scale")


def cells_of(made):
    return [*made.renders.cells, *(made.controls.cells if made.controls else [])]


def with_squares(made, headless):
    """The same run, its heads marked in all cells but the headless ones."""
    squares = [
        HeadSquare(**{k: getattr(cell, k) for k in KEY}, square=None if headless(cell) else (10, 20, 60, 70))
        for cell in cells_of(made)
    ]
    record = ScoresRecord.from_json(json.loads((made.run / "scores.json").read_text()))
    photos = [PhotoSquare(photo=f.name, square=(0, 24, 48, 72)) for f in made.photo_set.files]
    write_scores(made.run / "scores.json", record.model_copy(update={"head_squares": squares, "photo_squares": photos}))
    return made, ScoreTable(made.run / "scores.json")


def report_of(made, table, folder):
    folder.mkdir()
    arguments = [table if isinstance(each, ScoreTable) else each for each in made.arguments]
    write_report(ReportInputs(*arguments), folder)
    return Page(folder / "index.html")


def most_alike(made, table):
    scores = PictureScores(table)
    columns = make_columns(made.study, cells_of(made))
    found = extremes(made.renders, made.renders.cells, columns, scores, Gallery(), [])
    assert found
    return found


@pytest.fixture
def made(tmp_path):
    return write_run(tmp_path / "run")


def test_the_square_is_drawn_over_every_picture_and_photo_that_has_one(made, tmp_path):
    page = report_of(*with_squares(made, lambda cell: False), tmp_path / "report")
    (picture,) = {cell.size for cell in made.renders.cells}
    squares = [each["style"] for each in page.all("span", **{"class": "square"})]
    across, down = 100 / picture[0], 100 / picture[1]
    assert squares.count(
        f"left:{10 * across:.2f}%;top:{20 * down:.2f}%;width:{50 * across:.2f}%;height:{50 * down:.2f}%"
    )
    assert squares.count("left:0.00%;top:25.00%;width:50.00%;height:50.00%") == len(made.photo_set.files)
    assert WHOLE.capitalize() not in page.text
    assert not page.misnested


def test_a_picture_without_a_head_says_so_and_does_not_rank(made, tmp_path):
    best = most_alike(made, ScoreTable(made.run / "scores.json")).most[0]

    def headless(cell):
        return best.shown.file.endswith(cell.file) and cell.reference is None

    made, table = with_squares(made, headless)
    found = most_alike(made, table)
    assert best.shown.file not in {each.shown.file for each in (*found.most, *found.least)}
    page = report_of(made, table, tmp_path / "report")
    assert page.text.count(f"{WHOLE.capitalize()}.") == 1
    assert "not ranked" in page.text
    readme = (tmp_path / "report" / "README.md").read_text()
    assert readme.count(WHOLE) == 1
    assert "not ranked" in readme


def test_where_whole_pictures_are_compared_nothing_is_drawn(made, tmp_path):
    page = report_of(made, ScoreTable(made.run / "scores.json"), tmp_path / "report")
    assert not page.all("span", **{"class": "square"})
    assert "The square" not in page.text
    assert not page.all("input", id="squares")


def test_a_square_is_in_percent_of_its_picture():
    square = square_in((64, 32, 128, 96), (256, 128))
    assert square
    assert square.style == "left:25.00%;top:25.00%;width:25.00%;height:50.00%"
    assert square_in(None, (256, 128)) is None
