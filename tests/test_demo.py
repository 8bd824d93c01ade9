"""The demo's study and what ships with it; no weight is loaded here."""

from __future__ import annotations

import json
import tomllib

import pytest
from PIL import Image

import limner.running.run
from limner.config import expand_variants
from limner.demo import CHELSEA, CHELSEA_CONSENT, HERE, OWN_CONSENT, demo_study, run_demo
from limner.opening import open_study
from limner.photos import list_photos
from tests.drawn import write_photos


@pytest.fixture
def opened(tmp_path):
    """The demo's study, read and checked against the miniature."""
    (tmp_path / "study.toml").write_text(demo_study(None, "cat face"), encoding="utf-8")
    return open_study(tmp_path / "study.toml")


def test_the_study_fits_the_miniature_and_every_file_is_there(opened):
    study = opened.study
    assert study.base.model == "miniature"
    assert study.subject.consent == CHELSEA_CONSENT
    runs = expand_variants(study.variants)
    assert [run.rank for run in runs if run.variant.method == "lora"] == [1, 4, 16]
    assert [run.variant.method for run in runs].count("full") == 1
    assert len(study.render.prompts) >= 3
    assert study.control is not None
    cells = len(study.control.references) * len(study.control.seeds) * len(study.control.conditioning_scale)
    assert cells * (len(runs) + 1) >= 3
    assert study.render.size == (256, 256)
    assert study.prepare.size_px == 256
    assert study.measure.likeness == ["efficientnet-lite0"]


def test_what_the_study_leaves_out_comes_from_the_miniatures_own_recommendation(opened):
    recommended = opened.base.defaults
    assert opened.study.variants[0].steps == recommended["variants"]["full"]["steps"]
    assert opened.origins["variants.0.steps"] == "limner.json"
    assert opened.study.render.steps == recommended["render"]["steps"]


def test_what_ships_can_be_read_and_is_attributed(opened):
    photos = list_photos(CHELSEA).photos
    assert [photo.name for photo in photos] == ["chelsea.png"]
    for file in [
        *(photo.path for photo in photos),
        *(reference.image for reference in opened.study.control.references),
    ]:
        with Image.open(file) as picture:
            assert min(picture.size) >= 256
    attribution = (HERE / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "chelsea.png" in attribution
    assert "CC0" in attribution
    assert all(reference.image.parent.name in attribution for reference in opened.study.control.references)


def test_ones_own_photos_and_words_stand_in_the_study_as_they_are(tmp_path):
    folder = tmp_path / 'photos of "Ben" \\ Jerry'
    folder.mkdir()
    text = demo_study(folder, 'dog "face"')
    subject = tomllib.loads(text)["subject"]
    assert subject["photos"] == str(folder)
    assert subject["class_noun"] == 'dog "face"'
    assert subject["consent"] == OWN_CONSENT
    assert "@" not in text


def test_the_demo_begins_with_ones_own_photos(tmp_path, monkeypatch):
    class Enough(Exception):
        pass

    def stop(*arguments, **options):
        raise Enough

    monkeypatch.setattr(limner.running.run, "load_base", stop)
    photos = write_photos(tmp_path / "photos")
    with pytest.raises(Enough):
        run_demo(tmp_path / "run", photos, "cat face")
    lock = json.loads((tmp_path / "run" / "study.lock.json").read_text())
    assert lock["study"]["subject"]["photos"] == str(photos)
    crops = json.loads((tmp_path / "run" / "photos" / "manifest.json").read_text())["photos"]
    assert crops
    assert {crop["source"] for crop in crops} <= {photo.name for photo in photos.iterdir()}
