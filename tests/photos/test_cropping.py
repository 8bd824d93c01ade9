"""Where the square goes, and what comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.decoding import DecodedPhoto
from limner.photos import plan_crop

SHARE = st.floats(0, 1)


@given(
    width=st.integers(64, 6000), height=st.integers(64, 6000), x=SHARE, y=SHARE,
    box=st.tuples(SHARE, SHARE, SHARE, SHARE), has_head=st.booleans(),
    zoom=st.sampled_from(["picture", "head"]), size_px=st.sampled_from([64, 256, 512, 1024]),
)  # fmt: skip
def test_a_crop_is_a_square_inside_the_picture_around_the_focus(width, height, x, y, box, has_head, zoom, size_px):
    left, right = sorted((box[0] * width, box[2] * width))
    top, bottom = sorted((box[1] * height, box[3] * height))
    head = (left, top, right, bottom) if has_head else None
    focus = ((left + right) / 2, (top + bottom) / 2) if has_head else (x * width, y * height)
    plan = plan_crop((width, height), focus, head, zoom, (size_px, size_px))
    assert 0 <= plan.x0 < plan.x1 <= width
    assert 0 <= plan.y0 < plan.y1 <= height
    assert plan.x1 - plan.x0 == plan.y1 - plan.y0 == plan.side_px
    assert plan.x0 <= focus[0] <= plan.x1
    assert plan.y0 <= focus[1] <= plan.y1
    assert plan.side_px >= min(width, height, size_px / 2)
    if zoom == "picture" or not has_head:
        assert plan.side_px == min(width, height)


def test_zooming_in_gives_the_head_sixty_percent():
    plan = plan_crop((3000, 2000), (1500, 900), (1200, 500, 1800, 1300), "head", (512, 512))
    assert 800 / plan.side_px == pytest.approx(0.6, abs=0.01)
    assert (plan.x0 + plan.x1) / 2 == pytest.approx(1500, abs=1)
    assert plan.notes == []


def test_a_small_head_is_not_enlarged_more_than_twice():
    plan = plan_crop((3000, 2000), (1500, 900), (1480, 880, 1520, 920), "head", (512, 512))
    assert plan.side_px == 256
    assert plan.notes == ["enlarged 2.0 times, from 256 px"]


def test_without_a_head_there_is_nothing_to_zoom_in_on():
    plan = plan_crop((900, 600), (450, 300), None, "head", (512, 512))
    assert plan.side_px == 600
    assert "no head" in plan.notes[0]


def test_cutting_keeps_the_place_and_averages_detail():
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[::2, ::2] = pixels[1::2, 1::2] = 255  # a checkerboard of single pixels: grey when shrunk well
    pixels[100:200, 100:200] = (200, 0, 0)
    photo = DecodedPhoto(Image.fromarray(pixels), (400, 300))
    assert (photo.cut((110, 110, 190, 190), (64, 64)) == (200, 0, 0)).all()
    shrunk = photo.cut((200, 0, 400, 200), (64, 64)).astype(int)
    assert np.abs(shrunk[4:-4, 8:-4] - 127).max() <= 4
