"""Which shapes crops may have, which of them a photo takes, and where a crop of such a shape lies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.photos import bucket_sizes, nearest_size, plan_crop

SIDE, SHARE = st.integers(64, 6000), st.floats(0, 1)
SIZES_PX = st.integers(8, 160).map(lambda eighth: 8 * eighth)


@pytest.mark.parametrize(("size_px", "wide"), [
    (64, []),
    (192, [(256, 128)]),
    (256, [(320, 192)]),
    (512, [(576, 448), (640, 384)]),
    (768, [(832, 704), (896, 640), (960, 576), (1024, 576)]),
])  # fmt: skip
def test_the_sizes_are_those_of_the_rule(size_px, wide):
    narrow = [(height, width) for width, height in wide[::-1]]
    assert bucket_sizes(size_px) == [*narrow, (size_px, size_px), *wide]


@given(size_px=SIZES_PX, multiple_px=st.sampled_from([8, 32, 64]))
def test_sizes_are_multiples_with_as_much_of_the_squares_area_as_goes(size_px, multiple_px):
    sizes = bucket_sizes(size_px, multiple_px)
    assert len(set(sizes)) == len(sizes)
    assert {(height, width) for width, height in sizes} == set(sizes)
    assert [width for width, height in sizes if width == height] == [size_px // multiple_px * multiple_px]
    for size in sizes:
        long, short = max(size), min(size)
        assert long % multiple_px == short % multiple_px == 0
        assert long * short <= size_px**2 < long * (short + multiple_px) or long == short
        assert long <= 2 * short


@given(width=SIDE, height=SIDE, size_px=SIZES_PX)
def test_a_photo_takes_the_shape_nearest_to_its_own(width, height, size_px):
    sizes = bucket_sizes(size_px)

    def apart(size):
        return abs(math.log((width / height) / (size[0] / size[1])))

    chosen = nearest_size((width, height), sizes)
    assert apart(chosen) == pytest.approx(min(map(apart, sizes)), abs=1e-9)
    if width == height:
        assert chosen[0] == chosen[1]


def test_photos_of_usual_shapes():
    sizes = bucket_sizes(512)
    shapes = {(4000, 3000): (576, 448), (3000, 4000): (448, 576), (3000, 2000): (640, 384), (1080, 1920): (384, 640)}
    shapes |= {(1000, 1100): (512, 512), (5000, 1000): (640, 384)}
    assert {photo: nearest_size(photo, sizes) for photo in shapes} == shapes


@given(
    photo=st.tuples(SIDE, SIDE), head=st.tuples(SHARE, SHARE, SHARE, SHARE), has_head=st.booleans(),
    zoom=st.sampled_from(["picture", "head"]), size_px=st.sampled_from([64, 192, 512, 1024]),
    share=st.none() | st.floats(0.01, 1),
)  # fmt: skip
def test_a_crop_has_its_shape_and_keeps_the_head(photo, head, has_head, zoom, size_px, share):
    size = nearest_size(photo, bucket_sizes(size_px))
    (left, right), (top, bottom) = (sorted((head[axis] * photo[axis], head[axis + 2] * photo[axis])) for axis in (0, 1))
    box = (left, top, right, bottom) if has_head else None
    focus = ((left + right) / 2, (top + bottom) / 2)
    plan = plan_crop(photo, focus, box, zoom, size, share)
    assert 0 <= plan.x0 < plan.x1 <= photo[0]
    assert 0 <= plan.y0 < plan.y1 <= photo[1]
    width, height = plan.size
    assert abs(width - height * size[0] / size[1]) <= 1 + size[0] / size[1]
    if share is None and (zoom == "picture" or not has_head):
        assert width == photo[0] or height == photo[1]
    if share is None and right - left < width - 1 and bottom - top < height - 1:
        assert plan.x0 - 1 <= left
        assert plan.y0 - 1 <= top
        assert right <= plan.x1 + 1
        assert bottom <= plan.y1 + 1


def test_zooming_in_and_sides_by_hand_go_by_the_short_side():
    head = (1000, 500, 1300, 860)
    near = plan_crop((3000, 2000), (1150, 680), head, "head", (640, 384))
    assert near.size == (1000, 600)
    assert 360 / near.side_px == pytest.approx(0.6)
    by_hand = plan_crop((3000, 2000), (1150, 680), head, "head", (640, 384), side_share=0.5)
    assert by_hand.size == (1500, 900)
    assert plan_crop((300, 200), (150, 100), None, "picture", (640, 384)).notes == ["enlarged 2.1 times, from 180 px"]
