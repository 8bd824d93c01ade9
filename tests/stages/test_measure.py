"""measure: every cell gets its rows; what is not there is said; what is current is left alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import PhotoSet, RenderSet, file_hashes, write_manifest
from limner.base import BaseLocation, find_base
from limner.config import Measure
from limner.embeddings import EfficientNetLite0, SubjectHeads, read_image
from limner.errors import LimnerError
from limner.stages.measure import measure
from tests.drawn import draw_subject
from tests.stages.measured import (
    COPYING,
    FIDELITY,
    GAIN,
    LIKENESS,
    PROMPTS,
    SETTINGS,
    SUBJECT,
    Notices,
    again,
    render_cells,
    values,
    write_controls,
    write_grid,
    write_photos,
)


@pytest.fixture(scope="module")
def base(tiny_folder) -> BaseLocation:
    return find_base(str(tiny_folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory, base) -> Path:
    """A measured run of five photos, eight renders and two conditioned ones."""
    folder = tmp_path_factory.mktemp("run")
    photos = write_photos(folder / "photos", 5)
    renders = write_grid(folder / "renders", render_cells(), {})
    controls = write_controls(folder / "control")
    measure(folder / "scores.json", photos, renders, controls, SUBJECT, SETTINGS, base, "cpu")
    return folder


@pytest.fixture(scope="module")
def record(run) -> dict[str, Any]:
    return json.loads((run / "scores.json").read_text())


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """The run, free to be changed."""
    return shutil.copytree(run, tmp_path / "run")


def test_every_cell_has_every_row_that_is_its_due(record):
    for metric in (LIKENESS, COPYING, FIDELITY):
        assert len(values(record, metric)) == 10
    assert len(values(record, GAIN)) == 5
    assert not values(record, GAIN, variant="base")
    assert len(values(record, "edge_agreement")) == 2
    keys = {"variant", "prompt", "reference", "seed", "image_index", "training_seed", "conditioning_scale"}
    assert set(record["rows"][0]) == {*keys, "metric", "value"}


def test_likeness_and_anchors_are_what_the_formula_says(run, record):
    model = EfficientNetLite0()
    photos, renders = PhotoSet(run / "photos"), RenderSet(run / "renders")
    crop = SubjectHeads("cat", photos.files).crop  # these drawings look like heads

    def heads(files):
        parts = crop.parts([*map(read_image, files)], 224)
        assert all(part.found for part in parts)
        return model.embed([part.image for part in parts]).double().numpy()

    known, seen = heads(photos.files), heads([renders.path(cell) for cell in renders.cells[:4]])
    expected = [float(np.mean([vector @ photo for photo in known])) for vector in seen]
    assert values(record, LIKENESS, variant="base", reference=None) == pytest.approx(expected, abs=1e-5)
    assert record["anchors"][LIKENESS]["floor"] == pytest.approx(np.mean(expected), abs=1e-5)
    pairs = [float(known[i] @ known[j]) for i in range(5) for j in range(5) if i != j]
    assert record["anchors"][LIKENESS]["ceiling"] == pytest.approx(np.mean(pairs), abs=1e-5)


def test_a_gain_is_against_the_base_of_the_same_row_and_seed(record):
    places = [{"prompt": name, "seed": seed} for name in PROMPTS for seed in (1, 2)] + [{"reference": "painting"}]
    for place in places:
        (own,) = values(record, LIKENESS, variant="lora-2", **place)
        (of_base,) = values(record, LIKENESS, variant="base", **place)
        (gain,) = values(record, GAIN, variant="lora-2", **place)
        assert gain == pytest.approx(own - of_base, abs=2e-6)


def test_kept_edges_agree_and_others_do_not(record):
    assert values(record, "edge_agreement", variant="base") == [1.0]
    assert values(record, "edge_agreement", variant="lora-2")[0] < 0.9


def test_the_models_are_named_and_the_file_says_how_it_was_made(record):
    assert record["models"][LIKENESS] == {"name": "efficientnet-lite0", "status": "used", "note": ""}
    assert record["models"][FIDELITY]["status"] == "used"
    manifest = record["manifest"]
    assert manifest["stage"] == "measure"
    assert {"key", "inputs", "made"} <= set(manifest)
    assert manifest["made"]["seconds"] > 0


def test_what_is_current_is_left_alone_and_says_nothing(copy, base):
    before = (copy / "scores.json").read_bytes()
    progress = Notices()
    again(copy, base, progress=progress)
    assert (copy / "scores.json").read_bytes() == before
    assert progress.heard == []
    assert progress.done == {}


def test_a_file_that_was_changed_by_hand_is_made_anew(copy, base, record):
    changed = {**record, "rows": [{**record["rows"][0], "value": 1.0}, *record["rows"][1:]]}
    (copy / "scores.json").write_text(json.dumps(changed))
    assert again(copy, base)["rows"] == record["rows"]
    (copy / "scores.json").write_text("{")
    assert again(copy, base)["rows"] == record["rows"]


def test_a_changed_render_is_measured_again_and_the_others_come_from_the_cache(copy, base, record, monkeypatch):
    seen: list[int] = []
    embed = EfficientNetLite0.embed
    monkeypatch.setattr(
        EfficientNetLite0, "embed", lambda self, images: seen.append(len(images)) or embed(self, images)
    )
    draw_subject((64, 64), 77).save(copy / "renders/lora-2/plain/1.png")
    renders = RenderSet(copy / "renders")
    manifest = replace(renders.manifest, files=file_hashes(copy / "renders"))
    write_manifest(copy / "renders", manifest)
    fresh = again(copy, base)
    assert sum(seen) == 2  # its head and the whole of it
    changed = {"variant": "lora-2", "prompt": "plain", "seed": 1}
    assert values(fresh, LIKENESS, **changed) != values(record, LIKENESS, **changed)
    assert values(fresh, LIKENESS, variant="base") == values(record, LIKENESS, variant="base")


def test_a_copied_photo_is_above_the_ceiling_even_when_mirrored(copy, base):
    photo = Image.open(copy / "photos/0002.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy / "renders/lora-2/plain/1.png")
    manifest = replace(RenderSet(copy / "renders").manifest, files=file_hashes(copy / "renders"))
    write_manifest(copy / "renders", manifest)
    fresh = again(copy, base)
    (copied,) = values(fresh, COPYING, variant="lora-2", prompt="plain", seed=1)
    anchor = fresh["anchors"][COPYING]
    assert copied == pytest.approx(1, abs=1e-4)
    assert copied > anchor["ceiling"] == pytest.approx(max(anchor["photo_similarities"]), abs=1e-5)
    assert len(anchor["photo_similarities"]) == 5


def test_fidelity_reads_the_prompt_with_the_class_noun(copy, base, record):
    """Renaming the identifier in prompt and subject changes no score; another prompt does."""
    cells = RenderSet(copy / "renders").cells
    for old, new, same in (("sks cat", "ohwx cat", True), ("at night", "in snow", False)):
        texts = [cell.model_copy(update={"text": cell.text.replace(old, new)}) for cell in cells]
        renders = write_grid(copy / "renders", texts, {})
        subject = SUBJECT.model_copy(update={"identifier": "ohwx"}) if same else SUBJECT
        fresh = measure(
            copy / "other.json", PhotoSet(copy / "photos"), renders, None, subject, SETTINGS, base, "cpu"
        ).record.to_json()
        unchanged = values(fresh, FIDELITY) == pytest.approx(values(record, FIDELITY, reference=None), abs=2e-6)
        assert unchanged is same


@pytest.mark.parametrize("count", [1, 3])
def test_with_few_photos_ceiling_and_copying_are_not_measurable(copy, base, count):
    photos = write_photos(copy / "few", count)
    fresh = measure(copy / "few.json", photos, RenderSet(copy / "renders"), None, SUBJECT, SETTINGS, base, "cpu")
    fresh = fresh.record.to_json()
    assert len(values(fresh, LIKENESS)) == 8
    assert fresh["anchors"][LIKENESS]["ceiling"] is None
    assert fresh["anchors"][LIKENESS]["floor"] is not None
    assert "not measurable" in fresh["anchors"][LIKENESS]["note"]
    assert values(fresh, COPYING) == []
    assert fresh["anchors"][COPYING]["ceiling"] is None
    assert any(note.startswith("copying: not measurable") for note in fresh["notes"])


def test_an_absent_model_is_named_and_left_out_with_its_reason(copy, base, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    progress = Notices()
    settings = Measure(likeness=["no-such/model", "efficientnet-lite0"], prompt_fidelity="efficientnet-lite0")
    fresh = again(copy, base, settings, progress=progress)
    absent = fresh["models"]["likeness/no-such/model"]
    assert absent["status"] == "left out"
    assert "not in the hub cache" in absent["note"]
    assert "embeds pictures only" in fresh["models"]["prompt_fidelity/efficientnet-lite0"]["note"]
    assert values(fresh, "likeness/no-such/model") == []
    assert len(values(fresh, LIKENESS)) == 10
    assert len(progress.heard) == 2
    assert all(done == total for done, total in progress.done.values())


def test_blanked_pictures_are_not_scored(copy, base):
    cells = [
        cell.model_copy(update={"flagged": cell.variant == "lora-2" and cell.seed == 1}) for cell in render_cells()
    ]
    write_grid(copy / "renders", cells, {})
    fresh = again(copy, base)
    assert len(values(fresh, LIKENESS, variant="lora-2", reference=None)) == 2
    assert "2 pictures blanked by the safety checker are not scored" in fresh["notes"]


def test_pictures_of_another_size_than_their_edges_are_an_error(copy, base):
    draw_subject((72, 64), 3).save(copy / "control/lora-2/painting/1.png")
    manifest = replace(RenderSet(copy / "control").manifest, files=file_hashes(copy / "control"))
    write_manifest(copy / "control", manifest)
    before = (copy / "scores.json").read_bytes()
    with pytest.raises(LimnerError, match="is 72x64 and its conditioning image 64x64"):
        again(copy, base)
    assert (copy / "scores.json").read_bytes() == before
