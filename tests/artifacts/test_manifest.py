"""Manifests carry a version and a hash of themselves: older ones are upgraded, newer and damaged ones refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from limner.artifacts import (
    AdapterFolder,
    Manifest,
    PhotoSet,
    ScoreTable,
    canonical_json,
    file_hashes,
    hash_bytes,
    is_current,
    read_manifest,
    scores_are_current,
    write_manifest,
    write_scores,
)
from limner.artifacts.integrity import with_hash
from limner.errors import NewerRecordError, NotFiniteError, RecordError
from limner.records import ArtifactRecord, PhotoRecord, StepRecord
from tests.recorded import adapter, photo, photos, scores_record


@pytest.fixture
def folder(tmp_path):
    """A small adapter as it is written now."""
    (tmp_path / "weights").write_bytes(b"weights")
    record = adapter("lora-2", method_record={"rank": 2}, loss=0.5)
    write_manifest(tmp_path, Manifest("train", 1, "key", {"steps": 3}, {}, file_hashes(tmp_path), record=record))
    return tmp_path


def change(path, **fields):
    raw = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(raw))
    return raw


def test_fields_of_the_record_stand_at_the_top_level_beside_the_manifests_own(folder):
    raw = json.loads((folder / "manifest.json").read_text())
    assert (raw["label"], raw["loss"], raw["stage"], raw["version"], raw["record_version"]) == (
        "lora-2", 0.5, "train", 1, 2,
    )  # fmt: skip
    assert AdapterFolder(folder).record.loss == 0.5


def test_no_record_may_overwrite_a_field_of_the_manifest():
    with pytest.raises(TypeError, match="version would overwrite"):

        class Colliding(ArtifactRecord):
            version: int


def test_a_stage_writes_its_own_record_and_no_other(tmp_path):
    with pytest.raises(TypeError, match="prepare does not write a AdapterRecord"):
        write_manifest(tmp_path, Manifest("prepare", 1, "key", {}, {}, record=adapter("lora-2")))


def test_a_misspelt_field_cannot_be_written_and_an_unknown_one_is_read_over(folder):
    with pytest.raises(ValidationError, match="captoin"):
        photo("0000.png", captoin="on a shelf")
    raw = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(with_hash(raw | {"added_later": 1})))
    assert AdapterFolder(folder).record == adapter("lora-2", method_record={"rank": 2}, loss=0.5)


CHANGES = [{"label": "another"}, {"made": {"seconds": 1.0}}, {"settings": {"steps": 4}}, {"new": 1}]


@pytest.mark.parametrize("fields", CHANGES)
def test_a_manifest_that_was_changed_by_hand_is_not_current_and_is_refused_as_an_input(folder, fields):
    assert is_current(folder, "key")
    change(folder / "manifest.json", **fields)
    assert not is_current(folder, "key")
    with pytest.raises(RecordError, match=r"manifest\.json is damaged or was changed by hand"):
        _ = AdapterFolder(folder).record


def test_a_newer_record_is_refused_by_its_version_and_never_replaced(folder):
    change(folder / "manifest.json", record_version=3)
    said = r"record version 3, this one reads up to 2\); update limner"
    with pytest.raises(NewerRecordError, match=said):
        _ = AdapterFolder(folder).record
    with pytest.raises(NewerRecordError, match=said):
        is_current(folder, "another")
    with pytest.raises(NewerRecordError, match=said):
        read_manifest(folder)


def test_a_folder_of_another_stage_is_refused_by_name(folder):
    with pytest.raises(RecordError, match="was made by the stage train"):
        _ = PhotoSet(folder).photos


def test_an_absent_manifest_says_what_to_run(tmp_path):
    with pytest.raises(RecordError, match=r"has no manifest\.json; run the stage that makes it first"):
        _ = PhotoSet(tmp_path).photos


def test_a_number_that_json_cannot_hold_is_named_with_its_field(tmp_path):
    line = StepRecord(step=1, loss=float("nan"), instance_loss=1, prior_loss=None, learning_rate=1e-4, seconds=1)
    with pytest.raises(NotFiniteError, match=r"manifest\.json: log\.0\.loss is nan"):
        write_manifest(tmp_path, Manifest("train", 1, "key", {}, {}, record=adapter("lora-2", log=[line])))
    assert list(tmp_path.iterdir()) == []


OLD = {"stage": "train", "version": 1, "key": "key", "settings": {}, "inputs": {}, "files": {}}
OLD_ADAPTER = {
    "label": "lora-2", "method": "lora", "rank": 2, "alpha": 4.0, "scale": 2.0, "training_seed": 0, "steps": 3,
    "start_from": None, "final_loss": 0.25, "log": [], "made": {"device": "cpu", "trained_with": ["lora-4"]},
}  # fmt: skip
OLD_PHOTO = {
    "source": "cat.png", "file": "0000.png", "size": [64, 64], "crop": {"x0": 0, "y0": 0, "x1": 64, "y1": 64},
    "focus": "center", "head": None, "notes": [], "warnings": [], "held_out": True,
}  # fmt: skip


def test_an_adapter_of_record_version_1_is_read(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(OLD | OLD_ADAPTER))
    assert is_current(tmp_path, "key")
    folder = AdapterFolder(tmp_path)
    assert folder.record.loss == 0.25
    assert folder.record.method_record == {"rank": 2, "alpha": 4.0, "scale": 2.0}
    assert folder.manifest.made.trained_with == ["lora-4"]


def test_whole_weights_of_record_version_1_have_no_rank(tmp_path):
    whole = OLD_ADAPTER | {"method": "full", "rank": None, "alpha": None, "scale": None}
    (tmp_path / "manifest.json").write_text(json.dumps(OLD | whole))
    assert AdapterFolder(tmp_path).record.method_record == {}


def test_photos_of_record_version_1_are_read(tmp_path):
    (tmp_path / "manifest.json").write_text(
        json.dumps(OLD | {"stage": "prepare", "photos": [OLD_PHOTO], "refused": [], "made": {}})
    )
    assert PhotoSet(tmp_path).photos == [PhotoRecord.from_json(OLD_PHOTO)]
    assert PhotoSet(tmp_path).held_out_files == [tmp_path / "0000.png"]


def test_an_old_manifest_without_what_it_must_have_is_damaged(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(OLD | {"label": "lora-2", "made": {}}))
    with pytest.raises(RecordError, match=r"damaged.*: Field required"):
        _ = AdapterFolder(tmp_path).record


@pytest.fixture
def scores(tmp_path):
    write_scores(tmp_path / "scores.json", scores_record(notes=["a note"]))
    return tmp_path / "scores.json"


def test_scores_are_whole_while_nothing_in_them_was_changed(scores):
    assert scores_are_current(scores, "k")
    assert not scores_are_current(scores, "another")
    change(scores, notes=["another note"])
    assert not scores_are_current(scores, "k")
    with pytest.raises(RecordError, match=r"scores\.json is damaged"):
        _ = ScoreTable(scores).rows


def test_scores_whose_manifest_was_changed_are_not_whole(scores):
    raw = json.loads(scores.read_text())
    change(scores, manifest=raw["manifest"] | {"settings": {"crop": "whole"}})
    assert not scores_are_current(scores, "k")


def test_newer_scores_are_refused_by_their_version(scores):
    raw = json.loads(scores.read_text())
    change(scores, manifest=raw["manifest"] | {"record_version": 3})
    with pytest.raises(NewerRecordError, match="record version 3"):
        scores_are_current(scores, "k")


def test_scores_of_record_version_1_are_read_and_their_changed_names_understood(tmp_path):
    others = {"from": "class images", "pictures": 8, "real": False}
    likeness = {"ceiling": 0.8, "floor": 0.3, "note": "", "photos": 5, "held_out": False, "power_others": others}
    copying = {"ceiling": 0.9, "floor": 0.4, "note": "", "photos": [0.5, 0.6]}
    old = {
        "rows": [], "anchors": {"likeness/a": likeness, "copying/a": copying}, "models": {}, "notes": [],
        "control": [], "nearest_photos": [],
    }  # fmt: skip
    manifest = OLD | {"stage": "measure", "made": {}, "content_hash": hash_bytes(canonical_json(old))}
    (tmp_path / "scores.json").write_text(json.dumps(old | {"manifest": manifest}))
    record = ScoreTable(tmp_path / "scores.json").record
    assert record.anchors["copying/a"].photo_similarities == [0.5, 0.6]
    assert record.anchors["likeness/a"].photos == 5
    assert record.anchors["likeness/a"].power_others is not None
    assert record.anchors["likeness/a"].power_others.origin == "class images"
    assert scores_are_current(tmp_path / "scores.json", "key")


def test_a_photo_set_says_each_of_its_photos_in_attributes(tmp_path):
    write_manifest(tmp_path, Manifest("prepare", 1, "key", {"size_px": 64}, {}, record=photos(["0.png"], caption="a")))
    assert [each.caption for each in PhotoSet(tmp_path).photos] == ["a"]
