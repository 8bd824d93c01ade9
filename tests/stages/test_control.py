"""The control stage: references, edges, scales."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import read_manifest
from limner.config import Control, Subject
from limner.errors import BaseError, InputError, PromptError
from limner.rendering.canny import edge_picture
from limner.stages.context import Context
from limner.stages.control import control
from tests.drawn import draw_subject
from tests.rendering.folders import Recorder, lora_folder, never, pngs

SUBJECT = Subject(photos="photos", identifier="sks", class_noun="cat")


@pytest.fixture
def stage(tiny_base, tiny_folder, tmp_path):
    """Runs the stage on two drawn references."""
    study = tmp_path / "study"
    study.mkdir()
    draw_subject((120, 90), 1).save(study / "wide.png")
    draw_subject((90, 120), 2).save(study / "tall.jpg")

    class Stage:
        folder, out, controlnet = study, tmp_path / "control", tiny_folder / "controlnet"
        rows = ({"name": "wide", "image": "wide.png", "size": (100, 66)}, {"name": "tall", "image": "tall.jpg"})

        def __call__(self, adapters=(), base=None, progress=None, rows=None, **more):
            settings = Control(**{"steps": 2, "references": list(rows or self.rows), **more})
            base, progress = base or (lambda: tiny_base), progress or Recorder()
            context = Context(SUBJECT, base, "hash", progress=progress)
            return control(context, self.controlnet, settings, self.folder, adapters, self.out, 96)

    return Stage()


def test_references_scales_and_variants(stage, tiny_base, tmp_path):
    progress = Recorder()
    adapters = [lora_folder(tmp_path, tiny_base)]
    result = stage(adapters, conditioning_scale=[1.0, 0.5], progress=progress)
    assert [(c.variant, c.reference, c.conditioning_scale, c.file) for c in result.cells] == [
        (variant, reference, scale, f"{variant}/{reference}@{scale:g}/0.png")
        for variant in ("base", "lora-2")
        for reference in ("wide", "tall")
        for scale in (1.0, 0.5)
    ]
    assert [cell.text for cell in result.cells[::4]] == ["portrait of cat", "portrait of sks cat"]
    assert [cell.size for cell in result.cells[:4]] == [(96, 64), (96, 64), (72, 96), (72, 96)]
    pictures = {cell.file: np.asarray(Image.open(result.path(cell))) for cell in result.cells}
    assert len({picture.tobytes() for picture in pictures.values()}) == 8
    assert pictures["base/wide@1/0.png"].shape == (64, 96, 3)
    assert progress.notices == ['reference "wide": 100x66 becomes 96x64, a multiple of 8']


def test_one_scale_needs_no_mark(stage):
    assert {cell.file for cell in stage().cells} == {"base/wide/0.png", "base/tall/0.png"}


def test_conditioning_pictures_lie_beside_and_stand_in_the_manifest(stage):
    result = stage()
    wide, tall = (reference.to_json() for reference in result.references)
    assert wide == {
        "name": "wide",
        "image": "conditioning/wide.png",
        "canny": "conditioning/wide-canny.png",
        "size": [96, 64],
    }
    resized = np.asarray(Image.open(result.folder / tall["image"]))
    assert np.array_equal(np.asarray(Image.open(stage.folder / "tall.jpg").resize((72, 96))), resized)
    assert np.array_equal(np.asarray(Image.open(result.folder / tall["canny"])), edge_picture(resized, 100, 200))


def test_a_second_run_loads_nothing_and_says_nothing(stage):
    stage()
    before, progress = pngs(stage.out), Recorder()
    (stage.folder / "elsewhere").mkdir()
    shutil.move(stage.folder / "wide.png", stage.folder / "elsewhere" / "w.png")  # the same picture elsewhere
    rows = [{**stage.rows[0], "image": "elsewhere/w.png"}, stage.rows[1]]
    stage(base=never, progress=progress, rows=rows)
    assert pngs(stage.out) == before
    assert (progress.notices, progress.tasks) == ([], [])


def test_a_removed_cell_and_a_removed_drawing_come_back_the_same(stage, tiny_base, tmp_path):
    adapters = [lora_folder(tmp_path, tiny_base)]
    stage(adapters, seeds=[1, 2])
    before, progress = pngs(stage.out), Recorder()
    (stage.out / "lora-2/tall/2.png").unlink()
    (stage.out / "conditioning/wide-canny.png").unlink()
    stage(adapters, seeds=[1, 2], progress=progress)
    assert progress.units == 1
    assert pngs(stage.out) == before


def test_only_the_cells_of_a_changed_reference_are_remade(stage):
    stage()
    before = pngs(stage.out)
    draw_subject((120, 90), 5).save(stage.folder / "wide.png")
    stage()
    changed = {name for name, content in pngs(stage.out).items() if before[name] != content}
    assert changed == {"base/wide/0.png", "conditioning/wide.png", "conditioning/wide-canny.png"}


def test_thresholds_and_the_controlnet_count(stage, tmp_path):
    stage()
    before = pngs(stage.out)
    stage(canny_low=10, canny_high=30)
    assert pngs(stage.out)["base/wide/0.png"] != before["base/wide/0.png"]
    stage()
    stage.controlnet = shutil.copytree(stage.controlnet, tmp_path / "controlnet")
    stage(base=never)  # the same ControlNet elsewhere
    config = stage.controlnet / "config.json"
    config.write_text(config.read_text() + "\n")
    progress = Recorder()
    stage(progress=progress)
    assert progress.units == 2


def test_a_dropped_reference_takes_its_pictures_away(stage):
    stage()
    result = stage(rows=[stage.rows[1]])
    assert set(pngs(stage.out)) == {"base/tall/0.png", "conditioning/tall.png", "conditioning/tall-canny.png"}
    assert [cell.reference for cell in result.cells] == ["tall"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"image": "gone.png"}, r"no picture .*gone\.png"),
        ({"image": "text.png"}, r"text\.png: the content is not a picture"),
        ({"image": "wide.png", "size": (40, 64)}, "40x64 is too small"),
    ],
)
def test_a_reference_that_cannot_be_used_is_told_before_weights_load(stage, row, told):
    (stage.folder / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=told):
        stage(base=never, rows=[{"name": "bad", **row}])
    assert not stage.out.exists()


def test_no_references_no_controlnet_and_a_lost_subject(stage, tmp_path):
    settings = Control(references=[])
    with pytest.raises(InputError, match=r"control\.references is empty"):
        control(Context(SUBJECT, never, "h"), stage.controlnet, settings, stage.folder, [], stage.out, 64)
    with pytest.raises(PromptError, match='"wide" has 94 tokens'):
        stage(prompt="snow " * 90 + "{subject}")
    stage.controlnet = tmp_path
    with pytest.raises(BaseError, match="holds no ControlNet"):
        stage(base=never)
    assert read_manifest(stage.out) is None


def test_a_reference_may_have_its_own_prompt(stage):
    rows = [{**stage.rows[0], "prompt": "a sketch of {subject}"}, stage.rows[1]]
    assert [cell.text for cell in stage(rows=rows).cells] == ["a sketch of cat", "portrait of cat"]


def test_edges_that_are_given_condition_as_they_are(stage):
    edges = np.zeros((64, 96, 3), np.uint8)
    edges[20, 10:80] = edges[10:60, 40] = 255
    Image.fromarray(edges).save(stage.folder / "drawn.png")
    row = {"name": "drawn", "image": "drawn.png"}
    found = stage(rows=[row])
    before = pngs(found.folder)["base/drawn/0.png"]
    given = stage(rows=[{**row, "edges": "given"}])
    reference = given.references[0]
    assert reference.to_json()["edges"] == "given"
    assert np.array_equal(np.asarray(Image.open(given.folder / reference.canny)), edges)
    assert pngs(given.folder)["base/drawn/0.png"] != before


def test_a_reference_without_edges_is_refused_and_what_was_converted_is_noticed(stage):
    Image.new("RGB", (128, 128), "grey").save(stage.folder / "flat.png")
    with pytest.raises(InputError, match="no edge was found in its picture between the thresholds 100 and 200"):
        stage(base=never, rows=[{"name": "flat", "image": "flat.png"}])
    picture = draw_subject((128, 128), 3).convert("RGBA")
    picture.putpixel((0, 0), (255, 0, 0, 0))
    picture.save(stage.folder / "clear.png")
    progress = Recorder()
    stage(rows=[{"name": "clear", "image": "clear.png"}], progress=progress)
    assert 'reference "clear": transparent parts were put on white' in progress.notices
