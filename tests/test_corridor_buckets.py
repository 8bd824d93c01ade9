"""A study whose photos keep their shapes, from its file to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from limner.artifacts import AdapterFolder, ClassSet, PhotoSet
from limner.study import run_study
from tests.drawn import draw_subject

STUDY = """
[subject]
photos = "photos"
identifier = "sks"
class_noun = "cat"
[base]
model = "{base}"
[prepare]
focus = "center"
size_px = 192
shape = "buckets"
held_out = 1
[class_images]
count = 4
[[variants]]
name = "full"
method = "full"
prior_preservation = true
steps = 4
[[variants]]
method = "lora"
rank = [1, 2]
flip = true
instance_prompt = "a photo of {{subject}}, {{caption}}"
steps = 4
validation = {{ every_steps = 2, keep = "best", count = 1 }}
[render]
seeds = [3]
[[render.prompts]]
name = "photo"
prompt = "a photo of {{subject}}"
"""
SHAPES = {(128, 256), (192, 192), (256, 128)}


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buckets")
    (folder / "photos").mkdir()
    for index, size in enumerate([(400, 200), (200, 400), (250, 240), (390, 200), (200, 390), (250, 250)]):
        draw_subject(size, index).save(folder / "photos" / f"photo-{index}.png")
        (folder / "photos" / f"photo-{index}.txt").write_text(["in the snow", "at night"][index % 2], encoding="utf-8")
    (folder / "study.toml").write_text(STUDY.format(base=tiny_folder), encoding="utf-8")
    run_study(folder / "study.toml", folder / "run")
    return folder / "run"


def test_photos_and_class_images_have_the_same_shapes(run):
    photos, of_class = PhotoSet(run / "photos"), ClassSet(run / "class")
    assert {Image.open(path).size for path in photos.files} == SHAPES
    assert {Image.open(path).size for path in of_class.files} == set(photos.training_shapes)
    assert all(of_class.files_of(size) for size in photos.training_shapes)


def test_all_variants_are_trained_measured_and_shown(run):
    labels = ["full", "lora-1", "lora-2"]
    for label in labels:
        record = AdapterFolder(run / "adapters" / label).record
        assert [row.step for row in record.log] == [1, 2, 3, 4]
    curve = AdapterFolder(run / "adapters" / "lora-2").record.validation
    assert [record.step for record in curve] == [2, 4]
    assert all(record.validation_loss > 0 for record in curve)
    rows = json.loads((run / "scores.json").read_text())["rows"]
    assert {row["variant"] for row in rows if row["metric"].startswith("likeness/")} == {"base", *labels}
    assert {row["variant"] for row in rows if row["metric"].startswith("copying/")} == {"base", *labels}
    assert len(list((run / "report" / "images" / "photos").glob("*.png"))) == 6


def test_a_second_run_makes_nothing(run):
    def stamps():
        return {
            path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "events.jsonl"
        }

    before = stamps()
    run_study(run.parent / "study.toml", run)
    assert stamps() == before
