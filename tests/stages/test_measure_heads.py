"""Heads are compared with heads, pictures without one with whole photos, and the scores say which."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import PhotoSet, RenderSet, load_scores
from limner.base import find_base
from limner.embeddings import EfficientNetLite0, read_image
from limner.embeddings.crops import cut_square
from limner.stages.measure import measure
from tests.embeddings.drawn_heads import draw_cat_head, placed
from tests.stages.measured import LIKENESS, SETTINGS, SUBJECT, render_cells, values, write_grid, write_photos

BLANK = Image.new("RGB", (256, 256), (120, 140, 120))
HEADLESS = "lora-2/plain/2.png"


def cat(index: int) -> Image.Image:
    """A drawn cat's head, a little elsewhere for each index."""
    return Image.fromarray(placed(draw_cat_head(), (256, 256), (10 + 6 * index, 12), 150 + 4 * index))


def measured(folder, tiny_folder, with_head):
    """Scores of five photos, of which the first `with_head` show a head, and eight renders, of which one shows none."""
    photos, renders = write_photos(folder / "photos", 5), write_grid(folder / "renders", render_cells(), {})
    for index, file in enumerate(photos.files):
        (cat(index) if index < with_head else BLANK).save(file)
    for index, cell in enumerate(renders.cells):
        (BLANK if cell.file == HEADLESS else cat(index)).save(renders.folder / cell.file)
    out = folder / "scores.json"
    base = find_base(str(tiny_folder))
    measure(out, PhotoSet(photos.folder), RenderSet(renders.folder), None, SUBJECT, SETTINGS, base, "cpu")
    return load_scores(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("heads")


@pytest.fixture(scope="module")
def scores(folder, tiny_folder):
    return measured(folder, tiny_folder, with_head=4)


def embedded(folder, pictures, squares):
    model = EfficientNetLite0()
    images = [read_image(folder / name) for name in pictures]
    cuts = [i if s is None else cut_square(i, s, 224) for i, s in zip(images, squares, strict=True)]
    return model.embed(cuts).double().numpy()


def test_a_head_is_compared_with_heads_and_a_picture_without_one_with_whole_photos(folder, scores):
    squares = {row.photo: row.square for row in scores.photo_squares}
    assert [squares[f"{i:04}.png"] is None for i in range(5)] == [False] * 4 + [True]
    names = [f"photos/{name}" for name in squares]
    heads = embedded(folder, names[:4], [*squares.values()][:4])
    whole = embedded(folder, names, [None] * 5)
    for row in scores.head_squares:
        (render,) = embedded(folder, [f"renders/{row.variant}/{row.prompt}/{row.seed}.png"], [row.square])
        against = whole if row.square is None else heads
        (value,) = values(scores.to_json(), LIKENESS, variant=row.variant, prompt=row.prompt, seed=row.seed)
        assert value == pytest.approx(float(np.mean(against @ render)), abs=1e-5)
    (lacking,) = [row for row in scores.head_squares if row.square is None]
    assert f"{lacking.variant}/{lacking.prompt}/{lacking.seed}.png" == HEADLESS


def test_the_notes_say_where_no_head_was_found(scores):
    notes = [note for note in scores.notes if "no head was found" in note]
    assert len(notes) == 2
    assert notes[0].startswith("no head was found in 1 of 5 photos (0004.png); only pictures without a head")
    assert "1 of 8 renders of the subject (lora-2 1); they are compared whole" in notes[1]


def test_the_ceiling_is_of_photos_with_a_head(folder, scores):
    squares = [row.square for row in scores.photo_squares][:4]
    heads = embedded(folder, [f"photos/{i:04}.png" for i in range(4)], squares)
    pairs = [float(heads[i] @ heads[j]) for i in range(4) for j in range(4) if i != j]
    assert scores.anchors[LIKENESS].ceiling == pytest.approx(np.mean(pairs), abs=1e-5)
    assert scores.anchors[LIKENESS].photos == 4


def test_where_most_photos_show_no_head_whole_pictures_are_compared(tmp_path, tiny_folder):
    scores = measured(tmp_path, tiny_folder, with_head=2)
    assert scores.head_squares == []
    assert any("a head was found in 2 of 5 photos" in note for note in scores.notes)
    assert not any("no head was found" in note for note in scores.notes)
    whole = embedded(tmp_path, [f"photos/{i:04}.png" for i in range(5)], [None] * 5)
    (render,) = embedded(tmp_path, ["renders/lora-2/plain/1.png"], [None])
    (value,) = values(scores.to_json(), LIKENESS, variant="lora-2", prompt="plain", seed=1)
    assert value == pytest.approx(float(np.mean(whole @ render)), abs=1e-5)
