"""The protocol: the published prompts, four pictures each, whole pictures, models that are named as what they are."""

from __future__ import annotations

import pytest
import tomli_w

from limner.base import find_base
from limner.config import read_toml, resolve_study
from limner.dreambench import (
    ProtocolModels,
    find_models,
    is_live,
    prompt_name,
    read_prompts,
    run_dreambench,
    stand_ins,
    tables_of,
)
from limner.errors import InputError
from limner.subjects import SubjectFolder

MODELS = ProtocolModels("facebook/dino-vits16", "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32")


def test_there_are_25_prompts_of_either_kind_and_ten_that_only_one_has():
    live, things = read_prompts("live"), read_prompts("object")
    assert len(live) == len(things) == len(set(live)) == len(set(things)) == 25
    assert len(set(live) & set(things)) == 15
    assert "a {subject} wearing a black top hat and a monocle" in live
    assert "a cube shaped {subject}" in live
    assert "a {subject} on top of green grass with sunflowers around it" in things
    assert all("{subject}" in prompt and prompt.startswith("a ") for prompt in live + things)
    assert prompt_name("a red {subject}") == "red"
    assert len({prompt_name(prompt) for prompt in live}) == 25


@pytest.mark.parametrize(("noun", "live"), [("dog", True), ("cat face", True), ("toy", False), ("hotdog stand", False)])
def test_live_subjects_have_prompts_of_their_own(noun, live):
    assert is_live(noun) is live


def test_a_subjects_study_is_valid_and_asks_for_a_hundred_pictures(tmp_path):
    subject = SubjectFolder("dog6", tmp_path, "dog")
    tables = tables_of(subject, {"variants": [{"method": "full"}], "render": {"images_per_seed": 4}}, MODELS, tmp_path)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    study = resolve_study(read_toml(tmp_path / "study.toml"), {})
    render = study.render
    assert len(render.prompts) * len(render.seeds) * render.images_per_seed == 100
    assert study.subject.fill(render.prompts[0].prompt) == "a sks dog in the jungle"
    assert study.measure.likeness == ["facebook/dino-vits16", "openai/clip-vit-base-patch32"]


def test_models_that_are_not_there_are_stood_in_for_by_name(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("limner.dreambench.DINO_MODEL", "nobody/absent")
    monkeypatch.setattr("limner.dreambench.CLIP_MODEL", "nobody/absent-clip")
    monkeypatch.setattr(
        "limner.dreambench.STAND_INS", {"nobody/absent": "efficientnet-lite0", "nobody/absent-clip": "base"}
    )
    found = find_models(find_base("miniature"))
    assert found == ProtocolModels("efficientnet-lite0", "base", "base")
    assert stand_ins(found) == {"DINO": "efficientnet-lite0", "CLIP-I": "base", "CLIP-T": "base"}
    assert found.metrics["CLIP-T"] == "prompt_fidelity/base"


def test_a_study_may_change_variants_but_not_the_protocol(tmp_path):
    (tmp_path / "mine.toml").write_text('[measure]\nlikeness = ["base"]\n')
    with pytest.raises(InputError, match="belongs to the DreamBench protocol"):
        run_dreambench(tmp_path, tmp_path / "out", study=tmp_path / "mine.toml")
