"""Finding heads in many pictures: the order, the batch and the size of the picture have no say."""

from __future__ import annotations

import numpy as np
import pytest

from limner.embeddings.face_finder import face_weights, find_faces
from limner.embeddings.head_finder import HeadFinder, head_weights, working_size
from limner.errors import InputError
from tests.embeddings.drawn_heads import SIDE_PX, draw_cat_head, draw_person_head, placed
from tests.embeddings.test_heads import HEADS, overlap

MOST_BYTES = 2 * 2**20


@pytest.fixture(scope="module")
def finder():
    return HeadFinder()


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(("size", "corner", "side_px"), [
    ((600, 400), (250, 60), 300), ((400, 600), (20, 100), 250), ((1400, 1900), (300, 200), 1000),
])  # fmt: skip
def test_a_head_is_found_where_it_is_at_any_size(finder, kind, size, corner, side_px):
    draw, box = HEADS[kind]
    best = finder.find([placed(draw(), size, corner, side_px)], [kind])[0][0]
    scale = side_px / SIDE_PX
    truth = [corner[index % 2] + scale * edge for index, edge in enumerate(box)]
    assert best.kind == kind
    assert overlap(best.box, truth) > 0.5


def test_pictures_found_together_or_alone_have_the_same_heads(finder):
    pictures = [placed(draw_cat_head(), (600, 400), (x, 60), 300) for x in (20, 150, 280)]
    pictures.insert(1, placed(draw_person_head(), (300, 500), (10, 60), 280))
    together = finder.find(pictures)
    for picture, heads in zip(pictures, together, strict=True):
        alone = finder.find([picture])[0]
        assert [head.kind for head in alone] == [head.kind for head in heads]
        for one, other in zip(alone, heads, strict=True):
            assert np.allclose(one.box, other.box, atol=0.5)
            assert one.score == pytest.approx(other.score, abs=1e-3)


def test_the_same_picture_gives_the_same_bytes(finder):
    picture = placed(draw_cat_head(), (600, 400), (250, 60), 300)
    first, second = finder.find([picture])[0][0], HeadFinder().find([picture])[0][0]
    assert (first.box, first.score) == (second.box, second.score)
    assert first.vector.tobytes() == second.vector.tobytes()
    assert float(first.vector @ first.vector) == pytest.approx(1, abs=1e-4)


def test_nothing_is_found_in_blank_or_noisy_pictures_of_any_shape(finder):
    noise = np.random.default_rng(3).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    blanks = [np.full(shape, 128, np.uint8) for shape in ((64, 300, 3), (1, 1, 3), (40, 4000, 3))]
    assert finder.find([noise, *blanks]) == [[], [], [], []]
    assert finder.find([]) == []


def test_boxes_stay_inside_the_picture(finder):
    for head in finder.find([placed(draw_cat_head(), (300, 300), (-40, -40), 320)])[0]:
        x0, y0, x1, y1 = head.box
        assert 0 <= x0 < x1 <= 300
        assert 0 <= y0 < y1 <= 300


def test_only_kinds_that_were_asked_for_are_found(finder):
    picture = placed(draw_person_head(), (900, 400), (30, 50), 300)
    assert {head.kind for head in finder.find([picture])[0]} == {"person"}
    assert finder.find([picture], ["cat"]) == [[]]
    with pytest.raises(InputError, match="dragon"):
        finder.find([picture], ["dragon"])


@pytest.mark.parametrize("size", [(6000, 4000), (4000, 6000), (100, 100), (10, 8000), (1, 1), (640, 480)])
def test_the_working_copy_has_sides_in_whole_32s_and_nearly_the_same_shape(size):
    wide, high = working_size(*size)
    assert wide % 32 == high % 32 == 0
    assert 32 <= min(wide, high) <= max(wide, high) <= 640
    if max(size) <= 2 * min(size):
        assert abs(np.log(wide / high * size[1] / size[0])) < 0.12


def test_the_weights_are_small_and_the_face_detector_comes_in_its_package():
    assert head_weights().stat().st_size <= MOST_BYTES
    assert face_weights().stat().st_size > 100_000


def test_a_face_is_found_in_a_huge_and_in_a_small_picture():
    for factor in (1, 8):
        size, corner, side = (300 * factor, 200 * factor), (80 * factor, 10 * factor), 180 * factor
        box = find_faces(placed(draw_person_head(), size, corner, side))[0].box
        assert abs((box[0] + box[2]) / 2 / factor - 170) < 12
