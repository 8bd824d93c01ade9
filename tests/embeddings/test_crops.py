"""Views of a picture, and pictures that lie turned in their files."""

from __future__ import annotations

import numpy as np
from PIL import Image

from limner.embeddings import read_image, view_boxes, view_crops


def test_views_are_the_squares_and_their_mirror_images():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    cuts = [crop.cut(picture, 224)[0] for crop in view_crops()]
    boxes = view_boxes(40)
    assert len(cuts) == 2 * len(boxes)
    for (left, top, side), plain, mirrored in zip(boxes, cuts[::2], cuts[1::2], strict=True):
        assert np.array_equal(plain, picture[top : top + side, left : left + side])
        assert np.array_equal(mirrored, plain[:, ::-1])
    assert np.array_equal(cuts[0], picture)
    assert len({crop.name for crop in view_crops()}) == len(cuts)


def test_views_of_other_shapes_are_of_their_shape():
    picture = np.random.default_rng(0).integers(0, 256, (40, 80, 3)).astype(np.uint8)
    cuts = [crop.cut(picture, 224)[0] for crop in view_crops()]
    assert np.array_equal(cuts[0], picture)
    assert {cut.shape for cut in cuts[2:]} == {(34, 68, 3)}
    assert {tuple(picture[y, x]) for y in (0, 39) for x in (0, 79)} <= {
        tuple(cut[y, x]) for cut in cuts[4::2] for y in (0, -1) for x in (0, -1)
    }  # the corners


def test_a_picture_is_read_upright(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: the viewer is to turn it clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(np.asarray(picture), -1))
