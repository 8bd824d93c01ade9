"""Likeness by faces: where there is none the cell is left out and counted."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from limner.artifacts import Manifest, PhotoSet, file_hashes, write_manifest
from limner.base import find_base
from limner.embeddings import Embedded
from limner.metrics.power import share_recognised
from limner.stages.measure import measure
from tests.embeddings.tiny_faces import draw_face, write_recogniser
from tests.recorded import photos
from tests.stages.measured import SETTINGS, SUBJECT, render_cells, values, write_grid

PHOTOS, FACELESS_PHOTO = 6, 5
OWN_MARK, OTHER_MARK = "cheek", "chin"
SIZE = (160, 160)


def face(place: int, mark: str | None) -> Image.Image:
    """Faces in several places; without a mark none."""
    if mark is None:
        return Image.new("RGB", SIZE, (90 + place, 90, 90))
    return Image.fromarray(draw_face(SIZE, (2 + place % 5, 3 + place % 3), mark))


def photos_in(folder, marks) -> PhotoSet:
    folder.mkdir(parents=True)
    record = photos([f"{index:04}.png" for index in range(len(marks))])
    for photo, (index, mark) in zip(record.photos, enumerate(marks), strict=True):
        face(index, mark).save(folder / photo.file)
    write_manifest(folder, Manifest("prepare", 1, "p", {"size_px": 160}, {}, file_hashes(folder), record=record))
    return PhotoSet(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_recogniser(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def scored(tmp_path_factory, models, tiny_folder):
    """Measures faces: the base shows another, the variant the subject, but for its last picture, which shows none."""

    def score(marks) -> dict:
        folder = tmp_path_factory.mktemp("run")
        photo_set = photos_in(folder / "photos", marks)
        cells = [cell.model_copy(update={"size": SIZE}) for cell in render_cells()]
        for index, cell in enumerate(cells):
            file = folder / "renders" / cell.file
            file.parent.mkdir(parents=True, exist_ok=True)
            last = index == len(cells) - 1
            face(index, None if last else OTHER_MARK if cell.variant == "base" else OWN_MARK).save(file)
        renders = write_grid(folder / "renders", cells, {})
        settings = SETTINGS.model_copy(update={"likeness": [str(models)]})
        base = find_base(str(tiny_folder))
        table = measure(folder / "scores.json", photo_set, renders, None, SUBJECT, settings, base, "cpu")
        return table.record.to_json()

    return score


@pytest.fixture(scope="module")
def record(scored):
    return scored([OWN_MARK] * FACELESS_PHOTO + [None])


def test_only_pictures_with_a_face_have_rows_and_the_others_are_counted(record, models):
    metric = f"likeness/{models}"
    assert len(values(record, metric, variant="base")) == 4
    assert len(values(record, metric, variant="lora-2")) == 3
    assert len(values(record, f"likeness_gain/{models}")) == 3
    anchor = record["anchors"][metric]
    assert anchor["without_face"] == {"photos": 1, "renders": 1}
    assert anchor["photos"] == FACELESS_PHOTO
    assert anchor["note"].startswith("mean cosine of faces to 5 photos")
    notes = [note for note in record["notes"] if "no face was found" in note]
    assert notes == [
        "no face was found in 1 of 6 photos (0005.png); they are left out of likeness by faces",
        "no face was found in 1 of 8 renders of the subject (lora-2 1); they are left out of likeness by faces",
    ]


def test_the_subject_is_more_like_itself_than_another(record, models):
    metric = f"likeness/{models}"
    own, other = values(record, metric, variant="lora-2"), values(record, metric, variant="base")
    assert min(own) > max(other)
    anchor = record["anchors"][metric]
    assert anchor["floor"] < min(own)
    assert anchor["ceiling"] == pytest.approx(sum(own) / len(own), abs=0.02)


def test_whole_pictures_are_not_shown_to_a_model_of_faces(record):
    assert not [name for name in record["models"] if name.split("/")[0] in ("copying", "drift", "diversity")]


def test_without_any_face_in_the_photos_likeness_is_left_out_with_the_reason(scored, models):
    record = scored([None] * 4)
    left_out = record["models"][f"likeness/{models}"]
    assert left_out["status"] == "left out"
    assert left_out["note"] == "no face was found in any of the 4 photos"
    assert values(record, f"likeness/{models}") == []


def test_few_photos_with_faces_are_too_few_for_a_ceiling(scored, models):
    anchor = scored([OWN_MARK] * 3 + [None] * 2)["anchors"][f"likeness/{models}"]
    assert anchor["ceiling"] is None
    assert anchor["note"] == "ceiling: not measurable with 3 photos; 4 are needed"


def embedded(vectors: torch.Tensor, found: torch.Tensor) -> Embedded:
    return Embedded(vectors, found, torch.full((len(found), 4), -1))


def test_a_photo_whose_face_a_style_hides_is_not_recognised_and_others_without_a_face_stand_in_no_line():
    photos, others = torch.eye(20)[:1].expand(5, 20).clone(), torch.eye(20)[5:15]
    seen, unseen = torch.ones(5, dtype=torch.bool), torch.tensor([True, True, False, False, True])
    own, beside = embedded(photos, seen), embedded(others, torch.ones(10, dtype=torch.bool))
    assert share_recognised(own, beside, own, photos, leaves_out=True) == 1.0
    assert share_recognised(embedded(photos, unseen), beside, own, photos, leaves_out=True) == pytest.approx(0.6)
    few = embedded(others, torch.arange(10) < 6)
    assert share_recognised(own, few, own, photos, leaves_out=True) is None
    assert share_recognised(own, few, own, photos, leaves_out=False) == 1.0


def test_a_picture_whose_head_a_style_hides_is_compared_whole_on_both_sides():
    """Styled heads look like the heads, hidden ones like whole photos; with heads these have nothing in common."""
    heads, whole = torch.eye(20)[:1].expand(5, 20).clone(), torch.eye(20)[1:2].expand(5, 20).clone()
    found = torch.tensor([True, True, False, False, True])
    styled = torch.where(found[:, None], heads, whole)
    photos = embedded(heads, torch.ones(5, dtype=torch.bool))
    others = embedded(torch.eye(20)[5:15], torch.zeros(10, dtype=torch.bool))
    assert share_recognised(embedded(styled, found), others, photos, whole, leaves_out=False) == 1.0
    assert share_recognised(embedded(heads, ~found), others, photos, whole, leaves_out=False) == pytest.approx(0.4)
