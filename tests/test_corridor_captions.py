"""A study with a caption beside every photo, from its file to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limner.artifacts import AdapterFolder, PhotoSet
from limner.study import run_study
from tests.drawn import write_photos

STUDY = """
[subject]
photos = "photos"
identifier = "sks"
class_noun = "cat"
[base]
model = "{base}"
[prepare]
focus = "center"
[[variants]]
name = "captioned"
method = "full"
text_encoder = true
instance_prompt = "a photo of {{subject}}, {{caption}}"
steps = 2
[[variants]]
name = "plain"
method = "lora"
rank = [2]
steps = 2
[render]
seeds = [3]
[[render.prompts]]
name = "photo"
prompt = "a photo of {{subject}}"
"""
PLACES = ["in the garden", "in the snow", "at night", "on the street"]  # the fifth photo has none


@pytest.fixture(scope="module")
def study(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    write_photos(folder / "photos")
    for place, caption in enumerate(PLACES):
        (folder / "photos" / f"photo-{place}.txt").write_text(f" {caption}\n", encoding="utf-8")
    (folder / "study.toml").write_text(STUDY.format(base=tiny_folder), encoding="utf-8")
    run_study(folder / "study.toml", folder / "run")
    return folder / "study.toml"


def prompts_of(run: Path, label: str) -> list[str]:
    settings = AdapterFolder(run / "adapters" / label).manifest.settings
    return settings.get("instance_prompts", settings["instance_prompt"])


def test_each_photo_is_trained_with_its_caption_and_the_report_shows_what_came_of_it(study):
    run = study.parent / "run"
    assert [photo.caption or None for photo in PhotoSet(run / "photos").photos] == [*PLACES, None]
    assert prompts_of(run, "captioned") == [*(f"a photo of sks cat, {place}" for place in PLACES), "a photo of sks cat"]
    assert prompts_of(run, "plain") == "a photo of sks cat"
    assert len(list((run / "renders").rglob("*.png"))) == 3
    assert {row["variant"] for row in json.loads((run / "scores.json").read_text())["rows"]} == {
        "base", "captioned", "plain",
    }  # fmt: skip
    assert "a photo of {subject}, {caption}" in (run / "report" / "index.html").read_text(encoding="utf-8")


def test_another_caption_trains_what_reads_it_and_nothing_else(study):
    run, caption = study.parent / "run", study.parent / "photos" / "photo-1.txt"
    before = {name: AdapterFolder(run / "adapters" / name).content_hash for name in ("captioned", "plain")}
    page = (run / "report" / "index.html").stat().st_mtime_ns
    run_study(study, run)
    assert (run / "report" / "index.html").stat().st_mtime_ns == page  # nothing changed, nothing was made
    caption.write_text("with a dog", encoding="utf-8")
    run_study(study, run, until="train")
    after = {name: AdapterFolder(run / "adapters" / name).content_hash for name in before}
    assert after["captioned"] != before["captioned"]
    assert after["plain"] == before["plain"]
