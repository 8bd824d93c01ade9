"""Reference pictures and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.errors import InputError
from limner.rendering.canny import (
    conditioning_tensor,
    edge_picture,
    native_size,
    open_reference,
    rendered_size,
    resize_picture,
)


def test_a_reference_is_opened_upright_on_white_in_rgb(tmp_path):
    path = tmp_path / "turned.png"
    picture = Image.new("RGBA", (30, 20), (255, 0, 0, 255))
    picture.paste((0, 0, 255, 0), (0, 0, 10, 20))  # the left third is transparent
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to stand upright
    picture.save(path, exif=exif)
    image = open_reference(path)
    assert image.shape == (30, 20, 3)
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[-1, -1].tolist() == [255, 0, 0]


def test_a_missing_or_unreadable_reference_is_told_plainly(tmp_path):
    with pytest.raises(InputError, match=r"there is no picture .*gone\.jpg"):
        open_reference(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg cannot be read as a picture"):
        open_reference(tmp_path / "text.jpg")


@given(st.integers(64, 4096), st.integers(64, 4096))
def test_sizes_are_rounded_down_to_whole_latents(width, height):
    rounded = rendered_size((width, height), "r")
    for asked, got in zip((width, height), rounded, strict=True):
        assert got % 8 == 0
        assert asked - 8 < got <= asked


def test_the_courseworks_sizes():
    assert rendered_size((340, 512), "mona_lisa") == (336, 512)
    assert rendered_size((400, 512), "girl") == (400, 512)
    assert rendered_size((512, 300), "peaches") == (512, 296)


@pytest.mark.parametrize("size", [(63, 512), (0, 0), (512, -8)])
def test_a_size_that_cannot_be_rendered(size):
    with pytest.raises(InputError, match=r"control\.references\.r\.size: .* at least 64"):
        rendered_size(size, "r")


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([64, 256, 512]))
def test_a_reference_without_size_keeps_its_shape_at_the_native_size(width, height, native):
    got = native_size(np.zeros((height, width, 3), np.uint8), native)
    assert all(side % 8 == 0 and 64 <= side <= native for side in got)
    assert got[0 if width >= height else 1] == native
    exact = native * min(width, height) / max(width, height)
    assert max(min(got), 64) >= min(exact - 8.5, native)


def test_edges_are_where_the_picture_has_them():
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = 255
    edges = edge_picture(picture)
    assert edges.shape == picture.shape
    assert edges.dtype == np.uint8
    assert set(np.unique(edges)) == {0, 255}
    columns = np.flatnonzero(edges[32, :, 0])
    assert len(columns)
    assert set(columns) <= {46, 47, 48, 49}
    assert np.array_equal(edges[..., 0], edges[..., 2])


def test_thresholds_decide_which_edges_are_kept():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 30  # a faint edge
    assert not edge_picture(picture).any()
    assert edge_picture(picture, 10, 20).any()


def test_the_conditioning_tensor_is_channels_first_from_nought_to_one():
    edges = np.zeros((64, 96, 3), np.uint8)
    edges[3, 5] = 255
    tensor = conditioning_tensor(edges)
    assert tensor.shape == (3, 64, 96)
    assert (tensor.min(), tensor.max(), tensor[0, 3, 5]) == (0, 1, 1)


def test_resizing_takes_width_first():
    assert resize_picture(np.zeros((100, 50, 3), np.uint8), (96, 64)).shape == (64, 96, 3)
