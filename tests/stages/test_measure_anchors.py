"""measure: drift, copying seen through crops, power, held-out photos and the summary of control."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from limner.artifacts import Cell, PhotoSet, RenderSet
from limner.base import BaseLocation, find_base
from limner.config import Measure
from limner.embeddings import WHOLE, EfficientNetLite0, EmbeddingCache, SubjectHeads, view_crops
from limner.errors import InputError
from limner.measuring import likeness, nearest_photo
from limner.stages.measure import measure
from tests.drawn import draw_subject
from tests.recorded import hold_out
from tests.stages.measured import (
    COPYING,
    LIKENESS,
    SETTINGS,
    SUBJECT,
    Notices,
    values,
    write_controls,
    write_grid,
    write_photos,
)
from tests.training.sets import write_class_set

PROMPTS = {
    "plain": "a photo of {subject}",
    "sketch": "a pencil sketch of {subject}",
    "lego": "lego sculpture of {subject}",
    "class": "a photo of {class_noun}",
    "house": "a red house",
}
DRIFT, DIVERSITY, CLASS = (f"{role}/efficientnet-lite0" for role in ("drift", "diversity", "class_likeness"))
SEEDS = (1, 2)


def cells(prompts: dict[str, str] = PROMPTS) -> list[Cell]:
    return [
        Cell(
            variant=variant, prompt=name, seed=seed, image_index=0, file=f"{variant}/{name}/{seed}.png",
            text=SUBJECT.fill(prompt, as_class=variant == "base"), size=(64, 64),
        )
        for variant in ("base", "full", "lora-2") for name, prompt in prompts.items() for seed in SEEDS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_folder) -> BaseLocation:
    return find_base(str(tiny_folder))


@pytest.fixture(scope="module")
def grids(tmp_path_factory) -> Path:
    """Photos and renders; the LoRA paints the base's own pictures where the subject is not asked for."""
    folder = tmp_path_factory.mktemp("grids")
    write_photos(folder / "photos", 5)
    for name in ("class", "house"):
        for index, seed in enumerate(SEEDS):
            file = folder / "renders" / "base" / name / f"{seed}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            draw_subject((64, 64), 80 + index + 10 * len(name)).save(file)
            (folder / "renders" / "lora-2" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / "renders" / "lora-2" / name)
    photo = Image.open(folder / "photos/0003.png")
    part = ImageOps.mirror(photo.crop((64 - 54, 0, 64, 54))).resize((64, 64), Image.Resampling.BICUBIC)
    (folder / "renders/full/plain").mkdir(parents=True)
    part.save(folder / "renders/full/plain/1.png")  # a part of a training photo, mirrored and enlarged
    write_grid(folder / "renders", cells(), {})
    return folder


def score(folder: Path, base: BaseLocation, out: Path, settings: Measure = SETTINGS, **options: Any) -> dict[str, Any]:
    photos = options.pop("photos", None) or PhotoSet(folder / "photos")
    given = {"cache": folder / "cache"} | options
    controls = given.pop("controls", None)
    renders = given.pop("renders", None) or RenderSet(folder / "renders")
    return measure(out, photos, renders, controls, SUBJECT, settings, base, "cpu", **given).record.to_json()


@pytest.fixture(scope="module")
def record(grids, base) -> dict[str, Any]:
    return score(grids, base, grids / "scores.json", class_set=write_class_set(grids / "class", 9))


def test_drift_is_of_prompts_without_the_subject_and_zero_for_the_bases_own_pictures(record):
    assert len(values(record, DRIFT)) == 2 * 2 * len(SEEDS)
    assert not values(record, DRIFT, variant="base")
    for name in ("class", "house"):
        assert values(record, DRIFT, variant="lora-2", prompt=name) == pytest.approx([0, 0], abs=1e-5)
        assert min(values(record, DRIFT, variant="full", prompt=name)) > 0.01
    anchor = record["anchors"][DRIFT]
    assert anchor["floor"] == 0
    assert (anchor["class_prompts"], anchor["unrelated_prompts"]) == (["class"], ["house"])


def test_likeness_is_of_prompts_for_the_subject_alone(record):
    assert {row["prompt"] for row in record["rows"] if row["metric"] == LIKENESS} == {"plain", "sketch", "lego"}
    of_base = [v for name in ("plain", "sketch", "lego") for v in values(record, LIKENESS, variant="base", prompt=name)]
    assert record["anchors"][LIKENESS]["floor"] == pytest.approx(np.mean(of_base), abs=2e-6)
    assert {row["prompt"] for row in record["rows"] if row["metric"] == CLASS} == {"class"}
    assert values(record, CLASS, variant="lora-2") == values(record, CLASS, variant="base")


def test_diversity_is_the_mean_distance_among_class_renders_of_each_variant(grids, record):
    for variant in ("base", "full", "lora-2"):
        files = [grids / f"renders/{variant}/class/{seed}.png" for seed in SEEDS]
        pair = EmbeddingCache(grids / "own").embed(EfficientNetLite0(), files, WHOLE).vectors
        distance = float(1 - pair[0] @ pair[1])
        assert values(record, DIVERSITY, variant=variant) == pytest.approx([distance] * 2, abs=1e-5)
    assert record["anchors"][DIVERSITY]["floor"] == pytest.approx(values(record, DIVERSITY, variant="base")[0])


def test_without_such_prompts_drift_is_not_measured_and_says_so(grids, base, tmp_path):
    few = [cell for cell in cells() if cell.prompt not in ("class", "house")]
    renders = write_grid(shutil.copytree(grids / "renders", tmp_path / "renders"), few, {})
    fresh = score(grids, base, tmp_path / "scores.json", renders=renders)
    assert not [metric for metric in fresh["models"] if metric.startswith(("drift/", "diversity/", "class_likeness/"))]
    assert any(note.startswith("drift is not measured") for note in fresh["notes"])


def test_an_enlarged_and_mirrored_part_of_a_photo_is_a_copy(grids, record):
    (copied,) = values(record, COPYING, variant="full", prompt="plain", seed=1)
    anchor = record["anchors"][COPYING]
    assert copied > anchor["ceiling"]
    assert anchor["share_above"]["full"] >= 1 / 10
    model, cache = EfficientNetLite0(), EmbeddingCache(grids / "own")
    whole = cache.embed(model, [grids / "renders/full/plain/1.png"], WHOLE).vectors
    plain = cache.embed(model, PhotoSet(grids / "photos").files, view_crops()[0]).vectors
    assert copied > float(nearest_photo(whole, plain[:, None])) + 0.02  # the whole photos alone do not show it


def test_a_copy_names_the_photo_that_it_is_a_copy_of(grids, record):
    photos = {file.name: file for file in PhotoSet(grids / "photos").files}
    values = [row for row in record["rows"] if row["metric"] == COPYING]
    rows = [value | nearest for value, nearest in zip(values, record["nearest_photos"], strict=True)]
    assert {row["photo"] for row in rows} <= photos.keys()
    model, cache = EfficientNetLite0(), EmbeddingCache(grids / "own")
    for row in (r for r in rows if r["variant"] == "full" and r["prompt"] == "plain"):
        whole = cache.embed(model, [grids / f"renders/full/plain/{row['seed']}.png"], WHOLE).vectors
        views = torch.stack([cache.embed(model, [photos[row["photo"]]], crop).vectors for crop in view_crops()], 1)
        assert float(nearest_photo(whole, views)) == pytest.approx(row["value"], abs=1e-5)
    assert [
        value | {"photo": row["photo"]} for value, row in zip(values, rows, strict=True)
    ] == rows  # of the same picture


def test_the_share_above_the_limit_is_counted_by_variant(record):
    anchor = record["anchors"][COPYING]
    for variant, share in anchor["share_above"].items():
        own = values(record, COPYING, variant=variant)
        assert share == pytest.approx(sum(value > anchor["ceiling"] for value in own) / len(own), abs=1e-6)
    assert set(anchor["share_above"]) == {"base", "full", "lora-2"}


def test_power_is_given_for_every_prompt_for_the_subject(record):
    anchor = record["anchors"][LIKENESS]
    assert set(anchor["power"]) == {"plain", "sketch", "lego"}
    assert 0 <= anchor["power"]["plain"] <= 1
    assert 0 <= anchor["power"]["sketch"] <= 1
    assert anchor["power"]["lego"] is None  # no filter stands in for it
    assert anchor["power_styles"] == {"plain": [], "sketch": ["pencil sketch"], "lego": None}
    assert anchor["power_others"] == {"origin": "class images", "pictures": 9, "real": False}
    assert "at most" in anchor["power_note"]


def test_without_enough_others_power_is_not_measurable(grids, base, tmp_path):
    fresh = score(grids, base, tmp_path / "scores.json")
    anchor = fresh["anchors"][LIKENESS]
    assert anchor["power_others"] == {"origin": "the base's renders", "pictures": 6, "real": False}
    assert set(anchor["power"].values()) == {None}
    assert "not measurable with 6 pictures" in anchor["power_note"]


def test_the_users_own_others_come_before_class_images(grids, base, tmp_path):
    """Among pictures of plain colour any photo of the subject is found; among the subject's own photos it is not."""
    plain, same = tmp_path / "plain", tmp_path / "same"
    plain.mkdir()
    for index in range(8):
        Image.new("RGB", (64, 64), (30 * index, 255 - 30 * index, 90)).save(plain / f"{index}.png")
    same.mkdir()
    for index in range(9):
        shutil.copy(grids / f"photos/{index % 5:04}.png", same / f"{index}.png")
    settings = {name: SETTINGS.model_copy(update={"others": folder}) for name, folder in
                (("plain", plain), ("same", same))}  # fmt: skip
    found = {
        name: score(grids, base, tmp_path / f"{name}.json", own)["anchors"][LIKENESS] for name, own in settings.items()
    }
    assert found["plain"]["power_others"] == {"origin": "measure.others", "pictures": 8, "real": True}
    assert "at most" not in found["plain"]["power_note"]
    assert found["plain"]["power"]["plain"] == 1
    assert found["same"]["power"]["plain"] < 0.5


def test_too_few_others_are_refused(grids, base, tmp_path):
    (tmp_path / "few").mkdir()
    draw_subject((64, 64), 1).save(tmp_path / "few/1.png")
    for folder, message in (("few", "holds 1 pictures that can be used and 7 are needed"), ("none", "is not there")):
        settings = SETTINGS.model_copy(update={"others": tmp_path / folder})
        with pytest.raises(InputError, match=message):
            score(grids, base, tmp_path / "scores.json", settings)


def test_others_are_read_by_the_rules_of_photos(grids, base, tmp_path):
    folder = tmp_path / "own"
    (folder / "1_cat").mkdir(parents=True)
    for index in range(7):
        draw_subject((70, 64), index).save(folder / "1_cat" / f"{index}.png")
    Image.new("RGB", (3, 3)).save(folder / "dot.png")
    settings = SETTINGS.model_copy(update={"others": folder})
    anchors = score(grids, base, tmp_path / "scores.json", settings)["anchors"]
    assert anchors[LIKENESS]["power_others"]["pictures"] == 7
    (folder / "1_cat" / "0.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"holds 6 pictures .* 7 are needed \(left out: .*dot.png: 3x3 pixels are too"):
        score(grids, base, tmp_path / "scores.json", settings)


def test_other_others_make_the_scores_again(grids, base, tmp_path):
    out = tmp_path / "scores.json"
    first = score(grids, base, out)
    second = score(grids, base, out, class_set=write_class_set(tmp_path / "class", 8))
    assert first["manifest"]["key"] != second["manifest"]["key"]
    assert second["anchors"][LIKENESS]["power"]["plain"] is not None


def test_likeness_is_against_held_out_photos_and_copying_against_the_others(base, grids, tmp_path):
    photos = hold_out(write_photos(tmp_path / "photos", 9), 4)
    fresh = score(grids, base, tmp_path / "scores.json", photos=photos)
    model, cache = EfficientNetLite0(), EmbeddingCache(grids / "cache")
    render = [grids / "renders/full/plain/2.png"]
    head = SubjectHeads("cat", photos.held_out_files).crop
    expected = likeness(
        cache.embed(model, render, head).vectors, cache.embed(model, photos.held_out_files, head).vectors
    )
    assert values(fresh, LIKENESS, variant="full", prompt="plain", seed=2) == pytest.approx(expected.tolist(), abs=1e-5)
    assert fresh["anchors"][LIKENESS]["held_out"] is True
    assert fresh["anchors"][LIKENESS]["photos"] == 4
    assert len(fresh["anchors"][COPYING]["photo_similarities"]) == 5


def test_too_few_held_out_photos_leave_likeness_to_all(base, grids, tmp_path):
    photos = hold_out(write_photos(tmp_path / "photos", 6), 1)
    fresh = score(grids, base, tmp_path / "scores.json", photos=photos)
    assert fresh["anchors"][LIKENESS]["photos"] == 6
    assert fresh["anchors"][LIKENESS]["held_out"] is False


def test_whole_pictures_are_compared_where_the_study_says_so(grids, base, tmp_path, record):
    fresh = score(grids, base, tmp_path / "scores.json", SETTINGS.model_copy(update={"crop": "whole"}))
    model, cache = EfficientNetLite0(), EmbeddingCache(grids / "cache")
    render = cache.embed(model, [grids / "renders/full/plain/2.png"]).vectors
    expected = float(likeness(render, cache.embed(model, PhotoSet(grids / "photos").files).vectors))
    assert values(fresh, LIKENESS, variant="full", prompt="plain", seed=2) == [pytest.approx(expected, abs=1e-5)]
    assert values(fresh, LIKENESS) != values(record, LIKENESS)
    assert not any("no head was found" in note for note in fresh["notes"])


def test_control_is_summed_up_by_variant_and_scale(grids, base, tmp_path):
    controls = write_controls(tmp_path / "control")
    more = [
        cell.model_copy(update={"conditioning_scale": 0.5, "file": cell.file.replace("/1.", "/2.")})
        for cell in controls.cells
    ]
    given = controls.references
    controls = write_grid(controls.folder, [*controls.cells, *more], controls.manifest.settings, given)
    fresh = score(grids, base, tmp_path / "scores.json", controls=controls)
    found = {(row["variant"], row["conditioning_scale"]): row for row in fresh["control"]}
    assert set(found) == {(variant, scale) for variant in ("base", "lora-2") for scale in (0.5, 1.0)}
    assert found["base", 1.0]["means"]["edge_agreement"] == 1
    for (variant, scale), row in found.items():
        (own,) = values(fresh, LIKENESS, variant=variant, conditioning_scale=scale)
        assert row["pictures"] == 1
        assert row["means"][LIKENESS] == own


def test_every_task_ends_where_it_said(grids, base, tmp_path):
    progress = Notices()
    options = {"class_set": write_class_set(tmp_path / "class", 8), "controls": write_controls(tmp_path / "control")}
    score(grids, base, tmp_path / "scores.json", progress=progress, **options)
    assert {title for title in progress.done if "power" in title}
    assert all(done == total for done, total in progress.done.values())


def test_the_file_is_plain_json(grids, record):
    json.loads((grids / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
