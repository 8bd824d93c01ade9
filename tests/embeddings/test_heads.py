"""Finding heads: drawn ones, moved, scaled, turned; none where there is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from limner.embeddings import heads as head_finder
from limner.embeddings.heads import cut_head, find_heads, single_threaded_opencv
from limner.errors import InputError
from tests.embeddings.drawn_heads import SIDE_PX, draw_cat_head, draw_person_head, placed

HEADS = {"cat": (draw_cat_head, (60, 40, 340, 350)), "person": (draw_person_head, (85, 25, 315, 385))}


def overlap(first, second):
    """Intersection over union."""
    both = np.prod([max(0, min(first[i + 2], second[i + 2]) - max(first[i], second[i])) for i in (0, 1)])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(("size", "corner", "side_px"), [
    ((600, 400), (250, 60), 300), ((600, 400), (20, 100), 200), ((1400, 1900), (500, 200), 900),
    ((256, 256), (10, 5), 240), ((96, 96), (8, 8), 80),
])  # fmt: skip
def test_a_head_is_found_where_it_is_at_any_size(kind, size, corner, side_px):
    draw, box = HEADS[kind]
    best = find_heads(placed(draw(), size, corner, side_px))[0]
    scale = side_px / SIDE_PX
    truth = [corner[index % 2] + scale * edge for index, edge in enumerate(box)]
    assert best.kind == kind
    assert best.score >= 1
    assert overlap(best.box, truth) > 0.5


@pytest.mark.parametrize("degrees", [-20, 20])
def test_a_tilted_head_is_found(degrees):
    pixels = placed(draw_cat_head().rotate(degrees, fillcolor=(120, 140, 120)), (600, 400), (250, 60), 300)
    x, y = find_heads(pixels, ["cat"])[0].centre
    assert abs(x - 400) < 60
    assert abs(y - 210) < 60


def test_two_heads_are_found_best_first_and_kinds_can_be_asked_for():
    pixels = placed(draw_person_head(), (900, 400), (30, 50), 300).copy()
    pixels[50:350, 560:860] = placed(draw_cat_head(), (300, 300), (0, 0), 300)
    heads = find_heads(pixels)
    assert {head.kind for head in heads} == {"cat", "person"}
    assert [head.score for head in heads] == sorted((head.score for head in heads), reverse=True)
    assert {head.kind for head in find_heads(pixels, ["cat"])} == {"cat"}
    assert find_heads(pixels, []) == []
    with pytest.raises(InputError, match="dragon"):
        find_heads(pixels, ["dragon"])


def test_boxes_stay_inside_the_picture():
    pixels = placed(draw_cat_head(), (300, 300), (-40, -40), 320)
    for head in find_heads(pixels):
        x0, y0, x1, y1 = head.box
        assert 0 <= x0 < x1 <= 300
        assert 0 <= y0 < y1 <= 300


def test_nothing_is_found_in_a_blank_or_noisy_picture():
    noise = np.random.default_rng(3).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    assert find_heads(noise) == []
    assert find_heads(np.full((64, 300, 3), 128, np.uint8)) == []


def test_a_head_crop_holds_the_head_at_two_thirds_of_its_side():
    picture = placed(draw_cat_head(), (900, 600), (500, 100), 300)
    crop = cut_head(picture, 128, find_heads(picture)[0])
    assert crop.found
    assert crop.image.shape == (128, 128, 3)
    fur = np.abs(crop.image.astype(int) - (120, 140, 120)).sum(2) > 60
    longest = max(np.ptp(np.flatnonzero(fur.any(axis))) for axis in (0, 1))
    assert 0.5 < longest / 128 < 0.85


def test_without_a_head_the_middle_is_taken_and_said_so():
    pixels = np.zeros((120, 240, 3), np.uint8)
    pixels[20:100, 80:160] = 255  # exactly the middle two thirds of the short side
    assert find_heads(pixels) == []
    crop = cut_head(pixels, 64, None)
    assert not crop.found
    assert (crop.image[1:-1, 1:-1] > 240).all()


def test_the_same_picture_gives_the_same_heads():
    pixels = placed(draw_cat_head(), (600, 400), (250, 60), 300)
    assert find_heads(pixels) == find_heads(pixels)


def test_the_order_in_which_threads_find_windows_has_no_say(monkeypatch):
    pixels = placed(draw_cat_head(), (900, 500), (30, 60), 300).copy()
    pixels[100:400, 500:800] = placed(draw_cat_head(), (300, 300), (0, 0), 300)  # equal votes for either
    expected = find_heads(pixels, ["cat"])
    assert len(expected) == 2
    in_order = head_finder._windows
    for seed in range(5):
        shuffle = np.random.default_rng(seed).permutation
        monkeypatch.setattr(head_finder, "_windows", lambda *given, shuffle=shuffle: shuffle(in_order(*given)))
        assert find_heads(pixels, ["cat"]) == expected


def test_turned_pictures_are_looked_at_only_where_nothing_is_found_upright(monkeypatch):
    turns: list[float] = []
    turn = head_finder._rotated
    monkeypatch.setattr(head_finder, "_rotated", lambda grey, degrees: turns.append(degrees) or turn(grey, degrees))
    assert find_heads(placed(draw_cat_head(), (300, 300), (10, 10), 270), ["cat"])
    assert turns == [0.0]
    assert not find_heads(np.full((64, 64, 3), 128, np.uint8), ["cat"])
    assert turns[1:] == [0.0, -22.0, 22.0]


def test_single_threaded_opencv_gives_the_threads_back():
    before = cv2.getNumThreads()
    with single_threaded_opencv():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
