"""Reference pictures and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.decoding import Decoders
from limner.errors import InputError
from limner.rendering.canny import (
    conditioning_tensor,
    edge_picture,
    given_edges,
    native_size,
    open_reference,
    rendered_size,
    require_edges,
    resize_picture,
)


@pytest.fixture(scope="module")
def decoders():
    with Decoders(1) as started:
        yield started


def test_a_reference_is_opened_upright_on_white_in_rgb(tmp_path, decoders):
    path = tmp_path / "turned.png"
    picture = Image.new("RGBA", (90, 70), (255, 0, 0, 255))
    picture.paste((0, 0, 255, 0), (0, 0, 30, 70))  # the left third is transparent
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to stand upright
    picture.save(path, exif=exif)
    reference = open_reference(path, decoders)
    assert reference.pixels.shape == (90, 70, 3)
    assert reference.pixels[0, 0].tolist() == [255, 255, 255]
    assert reference.pixels[-1, -1].tolist() == [255, 0, 0]
    assert reference.notes == ["transparent parts were put on white"]


def test_a_reference_of_16_bit_is_scaled_and_not_clipped(tmp_path, decoders):
    ramp = np.linspace(0, 65535, 70 * 70).reshape(70, 70).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    pixels = open_reference(tmp_path / "deep.png", decoders).pixels
    assert np.abs(pixels[..., 0] - ramp / 257.0).max() <= 0.51


def test_what_cannot_be_a_reference_is_said_in_one_line(tmp_path, decoders):
    with pytest.raises(InputError, match=r"there is no picture .*gone\.jpg"):
        open_reference(tmp_path / "gone.jpg", decoders)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg: the content is not a picture"):
        open_reference(tmp_path / "text.jpg", decoders)
    Image.new("RGB", (300, 20)).save(tmp_path / "thin.png")
    with pytest.raises(InputError, match="300x20 pixels are too few"):
        open_reference(tmp_path / "thin.png", decoders)
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="20000x20000 pixels are too many"):
        open_reference(tmp_path / "bomb.png", decoders)


def drawn_edges():
    edges = np.zeros((128, 96, 3), np.uint8)
    edges[40] = edges[:, 50] = 255
    return edges


def test_given_edges_are_taken_as_they_are_and_keep_thin_lines(tmp_path):
    edges = drawn_edges()
    assert np.array_equal(given_edges(edges, (96, 128), "r"), edges)
    smaller = given_edges(edges, (48, 64), "r")
    assert smaller.shape == (64, 48, 3)
    assert set(np.unique(smaller)) == {0, 255}
    assert smaller[20].all()
    assert smaller[:, 25].all()
    assert given_edges(edges, (192, 256), "r").mean() == pytest.approx(edges.mean(), rel=0.1)


def test_what_is_no_edge_map_is_refused():
    with pytest.raises(InputError, match=r"references\.r\.edges .* neither black nor white"):
        given_edges(np.full((64, 64, 3), 120, np.uint8), (64, 64), "r")
    with pytest.raises(InputError, match=r"mostly white; .* invert it"):
        given_edges(255 - drawn_edges(), (64, 64), "r")


@pytest.mark.parametrize(("given", "said"), [(True, "black throughout"), (False, "lower control.canny_low")])
def test_an_edge_map_with_nothing_in_it_is_refused(given, said):
    require_edges(drawn_edges(), "r", given=given, low=1, high=2)
    with pytest.raises(InputError, match=said):
        require_edges(np.zeros((64, 64, 3), np.uint8), "r", given=given, low=1, high=2)


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
