"""The check of unseen subjects: settings, prototypes, scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

from limner.artifacts import Manifest, PhotoSet, file_hashes, write_manifest  # noqa: E402
from miniature.individuals import (  # noqa: E402
    Individual,
    first_photos,
    nearest_prototype,
    real_photos_recognised,
)
from miniature.personalise import STYLED, Judgement, greyness  # noqa: E402
from miniature.subject_results import met, right_count, style_share  # noqa: E402
from miniature.subjects import make_parser, parse_settings, read_configs, study_of  # noqa: E402
from tests.recorded import photos  # noqa: E402

REQUIRED = ["--data", "data", "--work", "work"]


def unit(*values: float) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(values, dtype=torch.float32), dim=0)


def test_settings_are_read_as_a_study_reads_them() -> None:
    settings = parse_settings(["lora.rank=[4]", "lora.learning_rate=1e-3", "render.sampler=euler", "full.flip=true"])
    assert settings == {
        "lora": {"rank": [4], "learning_rate": 1e-3},
        "render": {"sampler": "euler"},
        "full": {"flip": True},
    }
    with pytest.raises(SystemExit, match="not TABLE"):
        parse_settings(["steps=3"])


def test_a_grid_lies_over_the_command_and_limner_json_under_both(tmp_path: Path) -> None:
    rows = [
        {"tag": "a", "set": {"lora.steps": 7}, "methods": ["lora"], "photos": 1, "eval_steps": [6, 4]},
        {"tag": "b"},
    ]
    (tmp_path / "grid.json").write_text(json.dumps(rows))
    options = [*REQUIRED, "--grid", str(tmp_path / "grid.json"), "--set", "lora.batch_size=3", "--photos", "5"]
    first, second = read_configs(make_parser().parse_args(options))
    assert (first.photos, second.photos, second.methods) == (1, 5, ("full", "lora"))
    study = study_of(first, {"variants": {"lora": {"steps": 99, "learning_rate": 0.5}}})
    (variant,) = study.variants
    assert (variant.steps, variant.batch_size, variant.learning_rate) == (7, 3, 0.5)
    assert (variant.validation.every_steps, variant.precision) == (2, "fp32")


def test_two_rows_of_one_tag_are_refused(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text('[{"tag": "a"}, {"tag": "a"}]')
    with pytest.raises(SystemExit, match="same tag"):
        read_configs(make_parser().parse_args([*REQUIRED, "--grid", str(tmp_path / "grid.json")]))


def test_heads_go_to_the_nearest_prototype() -> None:
    prototypes = torch.stack([unit(1, 0, 0), unit(0, 1, 0)])
    assert nearest_prototype(torch.stack([unit(1, 0.9, 0), unit(0.1, 1, 3)]), prototypes).tolist() == [0, 1]


def test_a_real_photo_is_not_recognised_by_itself() -> None:
    """The first cat's two photos have nothing in common, so each is found only where it counts for itself."""
    strange = Individual("a", Path(), torch.stack([unit(1, 0, 0, 0.1), unit(0, 1, 0, 0.1)]), torch.zeros(2, 1, 4))
    other = Individual("b", Path(), torch.stack([unit(0, 0, 1, 1), unit(0, 0, 1, 1)]), torch.zeros(2, 1, 4))
    assert real_photos_recognised([strange, other]) == 0.5


def test_the_copy_limit_leaves_out_each_photo_itself_but_not_its_twin() -> None:
    views = torch.stack([unit(1, 0, 0), unit(0, 1, 0), unit(0, 1, 0.01)])[:, None]
    cat = Individual("a", Path(), views[:, 0], views)
    assert 0.99 < cat.copy_limit < 1
    apart = Individual("a", Path(), views[:2, 0], views[:2])
    assert apart.copy_limit == pytest.approx(0)


def judged(named: list[str], wrong_styles: int, nearest: list[float]) -> Judgement:
    styles = {style: "photo" if index < wrong_styles else style for index, style in enumerate(STYLED)}
    return Judgement(named, [0.0], [0.0], 10, [24.9, 25.0, 60.0], styles, nearest, 0.8, [])


def test_a_judgement_counts_right_cats_styles_and_copies() -> None:
    judgement = judged(["mina", "mina", "roxy"], 3, [0.79, 0.81, 0.8])
    assert right_count("mina", judgement) == 2
    assert style_share(judgement) == pytest.approx(12 / 15)
    assert judgement.copies == 1
    assert judgement.sketches == 1


def test_a_picture_is_as_grey_as_its_channels_are_alike() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0] = (200, 100, 150)
    assert greyness(picture) == 25
    assert greyness(np.full((2, 2, 3), 90, np.uint8)) == 0


@pytest.mark.parametrize(
    ("method", "right", "style", "copies", "expected"),
    [
        ("full", 0.75, 0.70, 0.10, True),
        ("full", 0.74, 0.70, 0.10, False),
        ("lora", 0.74, 0.70, 0.10, True),
        ("lora", 0.74, 0.69, 0.10, False),
        ("lora", 0.74, 0.70, 0.11, False),
    ],
)
def test_all_three_targets_count_at_once(
    method: str, right: float, style: float, copies: float, expected: bool
) -> None:
    assert met({"method": method, "right": right, "style": style, "copies": copies}) is expected


def test_the_first_photos_make_a_photo_set_of_their_own(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for index in range(3):
        (whole / f"{index}.png").write_bytes(bytes([index]))
    record = photos([f"{index}.png" for index in range(3)])
    write_manifest(whole, Manifest("prepare", 1, "key", {"size_px": 64}, {}, file_hashes(whole), record=record))
    assert first_photos(whole, 3, tmp_path / "unused").folder == whole
    first = first_photos(whole, 2, tmp_path / "first")
    assert [file.read_bytes() for file in first.files] == [b"\0", b"\1"]
    assert first.content_hash != PhotoSet(whole).content_hash
    assert np.all([first.size_px == 64, first.manifest.key != "key"])
