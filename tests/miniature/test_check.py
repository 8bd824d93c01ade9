"""The check's table: figures, targets, and the card that tells of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

from torch import Tensor  # noqa: E402

from miniature.figures import check_size, control_target, copy_rows, flat_faults, flat_rows, psnr  # noqa: E402
from miniature.held_out import Pets  # noqa: E402
from miniature.recognition import NameTable, StyleNamer  # noqa: E402
from miniature.rows import Row, row_from_json, table  # noqa: E402
from miniature.styles import STYLE_NAMES  # noqa: E402


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", 30.0, 30.0), True),
        (Row("a", 29.9, 30.0), False),
        (Row("a", 2.0, 2.0, "at most"), True),
        (Row("a", 2.1, 2.0, "at most"), False),
        (Row("a", 7.0), None),
    ],
)
def test_a_row_is_met_as_its_sense_says(row: Row, met: bool | None) -> None:
    assert row.met is met
    assert row_from_json(json.loads(json.dumps(row.to_json()))) == row


def test_the_table_tells_what_is_not_met() -> None:
    lines = table([Row("sharp", 29.26, 30.0), Row("small", 47.9, 48.0, "at most"), Row("near", 1.5, note="± 1")])
    assert lines.splitlines()[2:] == [
        "| sharp | 29.26 | at least 30 | **no** |",
        "| small | 47.9 | at most 48 | yes |",
        "| near | 1.5 (± 1) | stated |  |",
    ]


def test_psnr_in_levels() -> None:
    first = np.full((2, 2, 3), 100.0)
    assert psnr(first, first + 25.5) == pytest.approx(20.0)
    assert psnr(first, first) == float("inf")


def test_a_flat_picture_is_faulted_for_its_tone_its_worst_pixel_and_its_texture() -> None:
    levels = np.full((4, 4, 3), 130.0)
    assert flat_faults(levels, (127, 127, 127)) == {"mean": 3.0, "largest": 3.0, "texture": 0.0}
    levels[:2, :, 1] = 122.0
    assert flat_faults(levels, (127, 127, 127)) == {"mean": 4.0, "largest": 5.0, "texture": 4.0}


def test_grey_is_judged_by_its_mean_and_every_colour_by_its_texture() -> None:
    grey = {"mean": 0.9, "largest": 7.0, "texture": 0.1}
    red = {"mean": 3.0, "largest": 9.0, "texture": 1.6}
    rows = flat_rows({"(127, 127, 127)": grey, "(200, 60, 60)": red})
    assert [(row.value, row.met) for row in rows] == [(0.9, True), (7.0, None), (1.6, False)]
    assert flat_rows({"(127, 127, 127)": grey | {"mean": 1.1}})[0].met is False


@pytest.mark.parametrize(("rebuilt", "target"), [(0.9, 0.6), (0.6, 0.51)])
def test_the_control_target_is_the_lower_one(rebuilt: float, target: float) -> None:
    assert control_target(rebuilt) == pytest.approx(target)


def test_copies_are_told_from_new_pictures() -> None:
    generator = np.random.default_rng(0)
    views, real, new = (generator.standard_normal(shape) for shape in ((30, 2, 32), (40, 32), (40, 32)))
    (median, _), details = copy_rows(new, real, views, real)
    assert details["renders_nearer_than_that"] < 0.3
    (median, share), _ = copy_rows(views[:, 1] + 0.01 * generator.standard_normal((30, 32)), real, views, real)
    assert median.met is False
    assert share.value == 1.0


def test_size_counts_every_file(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(bytes(3 * 2**20))
    (tmp_path / "card").write_bytes(bytes(2**20))
    (whole, largest), _ = check_size(tmp_path)
    assert (whole.value, largest.value) == (4.0, 3.0)


def test_names_are_read_from_the_nearest_text() -> None:
    """Texts are embedded as one axis each, so that a picture's name is the axis it lies on."""
    axes: dict[str, int] = {}

    def embed_texts(texts: Sequence[str]) -> Tensor:
        rows = [axes.setdefault(text, len(axes)) for text in texts]
        return torch.nn.functional.one_hot(torch.tensor(rows), 1000).float()

    namer = StyleNamer(embed_texts, "cat face")
    assert namer.name(embed_texts(["a photo of cat face", "a mosaic of cat face"])) == ["photo", "mosaic"]
    names = NameTable.of(embed_texts, [("cat", "bengal"), ("dog", "pug")])
    pictures = embed_texts(["a photo of pug dog face", "a photo of bengal cat face"])
    found = names.correct(pictures, STYLE_NAMES.index("photo"), torch.tensor([1, 1]))
    assert found["breed_rank1"].tolist() == [True, False]


def test_thinning_keeps_pictures_and_labels_together() -> None:
    photos = np.arange(10, dtype=np.uint8)[:, None, None, None]
    pets = Pets(photos, list(range(100, 110)), list(range(10)), [("cat", "x")]).thinned(4)
    assert pets.photos.ravel().tolist() == pets.breed == [0, 3, 6, 9]
    assert pets.index == [100, 103, 106, 109]
