"""A run's records from Python, and studies that are no files."""

from __future__ import annotations

import tomllib

import pytest
from PIL import Image

import limner
from limner.api.sources import FILES, study_file
from limner.config import Section
from limner.errors import DiskError, InputError, LimnerError, StudyError
from tests.drawn import write_photos
from tests.stages.keys import sections_of


@pytest.fixture
def study(tiny_folder, tmp_path, monkeypatch):
    """A study's tables, whose photos lie in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    return {
        "subject": {"photos": "photos", "class_noun": "cat face"},
        "base": {"model": str(tiny_folder)},
        "prepare": {"focus": "center"},
        "variants": [{"method": "lora", "rank": 1, "steps": 1}],
        "render": {"prompts": [{"name": "photo", "prompt": "a photo of {subject}"}]},
    }


def test_a_run_is_seen_as_far_as_it_is(study, tmp_path):
    run = limner.train(study, tmp_path / "run")
    assert list(run.adapters) == ["lora-1"]
    assert len(run.photos.files) == 5
    assert run.study.variants[0].steps == 1
    assert run.class_images is None
    assert run.controls is None
    for made, stage in (
        (lambda: run.renders, "render"),
        (lambda: run.scores, "measure"),
        (lambda: run.report, "report"),
    ):
        with pytest.raises(LimnerError, match=f"call limner.{stage}"):
            made()
    run = limner.measure(study, "run")
    assert Image.open(run.renders.path(run.renders.cells[0])).size == (64, 64)
    assert {row["variant"] for row in run.scores} == {"base", "lora-1"}
    assert all(type(row) is dict for row in run.scores)
    assert limner.open_run("run").scores == run.scores


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        limner.open_run(tmp_path)


def test_the_study_is_kept_as_a_file_that_says_the_same_from_anywhere(study, tmp_path, monkeypatch):
    typed = limner.Study.model_validate({**study, "measure": {"others": "photos"}})
    for given in (study, typed):
        with study_file(given, tmp_path / "run") as file:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        assert tables["subject"] == {"photos": str(tmp_path / "photos"), "class_noun": "cat face"}
        assert tables["variants"][0]["rank"] in (1, [1])
        assert "steps" not in tables["render"]  # what is left out is the base's to say
    assert tables["measure"] == {"others": str(tmp_path / "photos")}


def test_a_faulty_study_leaves_what_was_there(study, tmp_path):
    study["variants"][0]["steps"] = -1
    with pytest.raises(StudyError, match=r"variants\.1\.steps"):
        limner.run(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.toml").write_text("# of before\n")
    with pytest.raises(StudyError):
        limner.run(study, tmp_path / "run")
    assert (tmp_path / "run" / "study.toml").read_text() == "# of before\n"


def test_what_fails_after_the_run_has_begun_leaves_its_study(study, tmp_path, monkeypatch):
    def fill_the_disk(file, out, **options):
        (out / "study.lock.json").write_text("{}")
        raise DiskError("no space left")

    monkeypatch.setattr("limner.api.stages.run_study", fill_the_disk)
    with pytest.raises(DiskError):
        limner.run(study, tmp_path / "run")
    assert (tmp_path / "run" / "study.toml").is_file()


def test_a_study_that_is_no_file_needs_a_folder(study):
    with pytest.raises(InputError, match="out="):
        limner.run(study)


def test_a_setting_of_no_kind_is_refused(study, tmp_path):
    study["variants"][0]["steps"] = object()
    with pytest.raises(StudyError, match="object"):
        limner.run(study, tmp_path / "run")


def test_every_setting_that_names_a_file_is_known():
    """Those of a study that is no file are made whole: a new one must be among FILES."""
    tables = {"Subject": "subject", "ClassImages": "class_images", "AdapterFile": "adapters", "Measure": "measure"}
    tables["ControlReference"] = "control.references"
    paths = {
        f"{tables[section.__name__]}.{name}"
        for section in sections_of(limner.Study)
        for name, field in section.model_fields.items()
        if "Path" in str(field.annotation)
    }
    assert paths == FILES
    assert issubclass(limner.Study, Section)


def test_prepare_refuses_what_is_not_possible(tmp_path):
    with pytest.raises(InputError, match="size_px"):
        limner.prepare(tmp_path, tmp_path / "out", size_px=3)
