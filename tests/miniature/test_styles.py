"""The picture styles: deterministic, of the photo's shape, unlike the photo and one another."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from miniature.sheets import save_sheet
from miniature.styles import STYLES


@pytest.fixture(scope="module")
def drawn_photo() -> np.ndarray:
    """A head-like blob with eyes on a gradient."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32)
    photo = np.stack([rows / 2 + 60, columns / 2 + 60, 180 - rows / 3], -1)
    photo[(rows - 128) ** 2 + (columns - 128) ** 2 < 80**2] = (170, 120, 70)
    for eye in (100, 156):
        photo[(rows - 110) ** 2 + (columns - eye) ** 2 < 12**2] = (30, 90, 40)
    return photo.astype(np.uint8)


@pytest.mark.parametrize("name", list(STYLES))
def test_a_style_is_deterministic_and_keeps_the_shape(name: str, drawn_photo: np.ndarray) -> None:
    before = drawn_photo.copy()
    first, second = STYLES[name](drawn_photo, 3), STYLES[name](drawn_photo, 3)
    assert first.shape == drawn_photo.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert np.array_equal(drawn_photo, before), "a style must not write into the photo"


def test_styles_differ_from_one_another(drawn_photo: np.ndarray) -> None:
    pictures = [style(drawn_photo, 0).astype(np.float32) for style in STYLES.values()]
    for index, picture in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert np.abs(picture - other).mean() > 4


def test_a_contact_sheet_has_one_cell_for_each_picture(tmp_path, drawn_photo: np.ndarray) -> None:
    import cv2

    save_sheet(tmp_path / "sheet.png", [drawn_photo] * 3, ["a", "b", "c"], columns=2, side_px=64)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * (64 + 18), 128, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
