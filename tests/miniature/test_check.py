"""The check's table: figures, targets, and the card that tells of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

from miniature.card import UNMEASURED, family_hash, write_card  # noqa: E402
from miniature.figures import check_size, control_target, copy_rows, flat_faults, psnr  # noqa: E402
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


def test_a_flat_picture_is_faulted_for_its_tone_and_for_its_texture() -> None:
    levels = np.full((4, 4, 3), 130.0)
    assert flat_faults(levels, (127, 127, 127)) == (3.0, 0.0)
    levels[:2, :, 1] = 126.0
    assert flat_faults(levels, (127, 127, 127)) == (3.0, 2.0)


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

    def embed_texts(texts: list[str]) -> torch.Tensor:
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


def test_the_card_tells_only_figures_of_the_weights_beside_it(tmp_path: Path) -> None:
    family, work = tmp_path / "family", tmp_path / "work"
    for folder in (family, work / "check"):
        folder.mkdir(parents=True)
    (family / "weights").write_text("first")
    write_card(family, work)
    assert UNMEASURED in (family / "README.md").read_text()
    record = {
        "date": "2026-02-03",
        "device": "cpu",
        "seconds": 12.0,
        "family": family_hash(family),
        "render": {"sampler": "dpm++", "steps": 16, "guidance_scale": 3.0},
        "rows": [Row("sharp", 31.5, 30.0).to_json()],
    }
    (work / "check" / "check.json").write_text(json.dumps(record))
    write_card(family, work)
    card = (family / "README.md").read_text()
    assert "2026-02-03" in card
    assert "| sharp | 31.5 | at least 30 | yes |" in card
    (family / "weights").write_text("second")
    write_card(family, work)
    assert UNMEASURED in (family / "README.md").read_text()
