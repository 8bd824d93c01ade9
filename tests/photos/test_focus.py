"""Where to look when no head is found, and photos that repeat each other."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from limner.photos import Twins, find_focus, small_copy
from limner.photos.saliency import salient_point
from tests.drawn import draw_subject


def disc_at(x: int, size: tuple[int, int] = (480, 200)) -> np.ndarray:
    picture = Image.new("RGB", size, (150, 170, 150))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - 40, 40, x + 40, 120), fill=(200, 90, 20), outline=(20, 20, 20), width=6)
    pen.ellipse((x - 20, 60, x - 5, 80), fill=(0, 0, 0))
    return np.asarray(picture)


def test_the_salient_point_follows_the_subject():
    places = [salient_point(disc_at(x))[0] for x in (80, 240, 400)]
    assert places == sorted(places)
    for place, x in zip(places, (80, 240, 400), strict=True):
        assert abs(place - x) < 70


@pytest.mark.parametrize("shape", [(128, 128), (64, 4000), (900, 70), (1, 1)])
@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_blank_picture_has_a_salient_point_too(shape, value):
    x, y = salient_point(np.full((*shape, 3), value, np.uint8))
    assert 0 <= x <= shape[1]
    assert 0 <= y <= shape[0]


def test_center_is_the_center_and_other_modes_say_how_they_looked():
    pixels = disc_at(80)
    assert find_focus(pixels, "center").point == (240, 100)
    assert find_focus(pixels, "center").how == "center"
    found = find_focus(pixels, "face")
    assert found.how == "salient point"
    assert found.point == salient_point(pixels)


def test_a_repeated_photo_is_named_and_others_are_not():
    twins = Twins()
    crops = [np.asarray(draw_subject((200, 200), index)) for index in range(4)]
    assert [twins.notes(f"{index}.png", small_copy(crop)) for index, crop in enumerate(crops)] == [[], [], [], []]
    brighter = np.clip(crops[2].astype(int) + 12, 0, 255).astype(np.uint8)
    assert twins.notes("again.jpg", small_copy(brighter)) == ["nearly the same as 2.png"]
