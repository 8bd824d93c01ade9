"""The study file: what it accepts, what it says, where its settings come from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.config import (
    LoraVariant,
    Section,
    Study,
    expand_variants,
    file_faults,
    merged,
    read_toml,
    resolve_study,
    setting_origins,
)
from limner.errors import StudyError
from limner.settings import sections as all_settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
SMALL = {"subject": {"photos": "photos", "class_noun": "cat"}, "variants": [{"method": "full"}]}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_study_that_ships_is_valid(path):
    study = resolve_study(read_toml(path), {}, str(path))
    assert expand_variants(study.variants)
    assert study.render.prompts


def test_the_first_coursework_is_complete():
    study = resolve_study(read_toml(CONFIGS[0]), {})
    assert [run.label for run in expand_variants(study.variants)] == [
        "dreambooth", "lora-2", "lora-4", "lora-16", "lora-128", "lora-256",
    ]  # fmt: skip
    assert study.render.size == (768, 512)
    assert study.control is not None
    assert len(study.control.references) == 3
    assert study.subject.fill(study.render.prompts[1].prompt).startswith("close-up portrait of sks woman, in a teenage")


def test_all_faults_are_listed_at_once():
    bad = {
        "subject": {"photos": "p", "class_noun": "cat", "age": 3},
        "variants": [{"method": "lora", "rank": 0}, {"method": "guess"}],
        "render": {"size": [500, 512], "prompts": [{"name": "a", "prompt": "{subj}"}]},
        "colour": "red",
    }
    with pytest.raises(StudyError) as error:
        resolve_study(bad, {}, "bad.toml")
    text = str(error.value)
    for part in ("subject.age: unknown key", "rank 0", "guess", "render.size.1", "multiple of 8", "subj", "colour"):
        assert part in text, part
    assert error.value.exit_code == 2


def test_what_the_study_leaves_out_comes_from_the_base_and_is_recorded():
    defaults = {"prepare": {"size_px": 256}, "variants": {"full": {"steps": 77}}, "render": {"steps": 20}}
    raw = merged(SMALL, {"render": {"seeds": [1]}, "variants": [{"method": "full", "learning_rate": 1e-5}]})
    study = resolve_study(raw, defaults)
    origins = setting_origins(study, raw, defaults)
    assert study.variants[0].steps == 77
    assert origins["variants.0.steps"] == "limner.json"
    assert origins["variants.0.learning_rate"] == "study"
    assert origins["render.seeds"] == "study"
    assert origins["render.steps"] == "limner.json"
    assert origins["render.guidance_scale"] == "default"


def test_labels_follow_the_run_folder():
    variants = [
        {"method": "full", "name": "dreambooth", "training_seeds": [0, 1]},
        {"method": "lora", "rank": [2, 16], "start_from": "dreambooth", "training_seeds": [0, 1]},
        {"method": "lora", "rank": 4, "name": "small"},
        {"method": "lora", "rank": [4, 8], "name": "wide"},
    ]
    runs = expand_variants(resolve_study(merged(SMALL, {"variants": variants}), {}).variants)
    labels = [run.label for run in runs]
    assert labels == [
        "dreambooth@0", "dreambooth@1", "lora-2@0", "lora-2@1", "lora-16@0", "lora-16@1",
        "small", "wide-lora-4", "wide-lora-8",
    ]  # fmt: skip
    assert {run.label: run.start_from for run in runs}["lora-16@1"] == "dreambooth@1"


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ([{"method": "full"}, {"method": "full"}], "would both be called"),
        ([{"method": "full", "name": "base"}], "keeps for itself"),
        ([{"method": "lora", "start_from": "dreambooth"}], "names no variant above it"),
        ([{"method": "lora", "unet": False, "text_encoder": False}], "nothing would be trained"),
        ([], "give at least one"),
    ],
)
def test_variants_that_contradict_each_other_are_refused(variants, said):
    with pytest.raises(StudyError, match=said):
        resolve_study({**SMALL, "variants": variants}, {})


@given(st.integers(1, 320), st.floats(0.5, 64))
def test_alpha_rules_give_the_scale_they_promise(rank, alpha):
    plain = LoraVariant(method="lora", alpha=alpha)
    root = LoraVariant(method="lora", alpha=alpha, alpha_rule="sqrt")
    assert math.isclose(plain.alpha_for(rank) / rank, alpha / rank)
    assert math.isclose(root.alpha_for(rank) / rank, alpha / math.sqrt(rank))
    assert LoraVariant(method="lora").alpha_for(rank) == rank


def test_the_untouched_base_is_asked_for_the_class():
    subject = resolve_study(SMALL, {}).subject
    assert subject.fill("a photo of {subject}") == "a photo of sks cat"
    assert subject.fill("a photo of {subject}", as_class=True) == "a photo of cat"
    assert subject.fill("portrait of {identifier} woman", as_class=True) == "portrait of woman"


def test_missing_files_are_named(tmp_path):
    raw = {**SMALL, "control": {"references": [{"name": "lisa", "image": "lisa.jpg"}]}}
    faults = file_faults(resolve_study(raw, {}), tmp_path)
    assert len(faults) == 2
    assert "lisa.jpg" in faults[1]


def test_a_study_that_is_no_toml_says_so(tmp_path):
    (tmp_path / "study.toml").write_text("subject = [")
    with pytest.raises(StudyError, match="cannot be read as TOML"):
        read_toml(tmp_path / "study.toml")
    with pytest.raises(StudyError, match="no such file"):
        read_toml(tmp_path / "absent.toml")


def test_every_setting_has_its_sentence():
    sections = [s for s in vars(all_settings).values() if isinstance(s, type) and issubclass(s, Section)]
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no sentence"
    assert len(sections) > 10
    assert issubclass(Study, Section)
