"""Every setting changes the key of the stages that read it, or stands among those that change no result.

A stage whose key is current does nothing, so a setting left out of a key would serve what was made with another.
"""

from __future__ import annotations

import re

import pytest

from limner.config import Study, with_settings
from tests.stages.keys import CHOOSING, Workshop, changed, leaves, sections_of

READ_BY = {
    "subject": {"train", "render", "control", "measure"},
    "base": {"class-images", "train", "render", "control"},
    "prepare": {"prepare"},
    "class_images": {"class-images"},
    "adapters": {"adopt"},
    "variants": {"train"},
    "render": {"render"},
    "control": {"control"},
    "measure": {"measure", "train"},  # where the best step is chosen, training asks these models
}
"""The stages whose keys a table's settings change, where EXCEPTIONS does not say otherwise. The report shows every
setting, so its key always changes."""

EXCEPTIONS: dict[str, set[str]] = {
    "subject.photos": {"prepare"},  # later stages name the photo set
    "subject.class_noun": {"class-images", "train", "render", "control", "measure"},
    "base.model": {"class-images", "adopt", "train", "render", "control"},  # what measures is named by content
    "base.safety_checker": {"render", "control"},  # class images and training are not checked
    "prepare.size_px": {"prepare", "class-images"},
    "render.precision": {"render", "control"},
    "measure.others": {"measure"},
    # Settings that change no result but the report:
    "subject.consent": set(),  # text for the report
    "base.revision": set(),  # where a base is found; its content is what counts
    "adapters.name": set(),  # a folder's name; grids name it among their columns
    "class_images.batch_size": set(),  # pictures do not depend on how many are made at once
    "variants.name": set(),  # a folder's name; grids name it among their columns
    "variants.checkpoint_every_steps": set(),  # how far back an interrupted training resumes
    "variants.log_to": set(),  # where the log goes as well
    "render.batch_size": set(),  # as for class images
    "memory.budget_gib": set(),  # what it chooses are other settings
    "memory.offload": set(),  # where parts of the base wait
    "memory.vae_batch_size": set(),  # how many pictures the VAE takes at once
    "report.language": set(),
}
ANOTHER = {
    "subject.photos": "other photos",
    "base.model": "another base",
    "base.vae": "another base/vae",
    "class_images.folder": "class pictures",
    "adapters.0.file": "another.safetensors",
    "variants.0.start_from": "given",
    "variants.0.optimizer.name": "adamw",
    "variants.1.optimizer.name": "adamw8bit",
    "variants.1.start_from": "given",
    "control.model": "another base/controlnet",
    "control.references.0.image": "another.png",
    "measure.others": "others",
    "measure.likeness": ["none"],
    "measure.prompt_fidelity": "none",
}
"""Other values of settings that name a file, a model or an optimizer; all others' are found by their type."""
MODELS = {"base.model", "base.vae", "control.model"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, tiny_folder):
    return Workshop(tmp_path_factory.mktemp("workshop"), tiny_folder)


def expected(path: str) -> set[str]:
    name = re.sub(r"\.\d+", "", path)
    return {"report"} | (EXCEPTIONS[name] if name in EXCEPTIONS else READ_BY[name.partition(".")[0]])


def test_every_setting_changes_the_keys_of_the_stages_that_read_it_and_no_other(workshop):
    study, faults = workshop.study, []
    before = workshop.keys(study)
    values = {p: str(workshop.folder / v) if p in MODELS else v for p, v in ANOTHER.items()}
    for path, section, name in leaves(study):
        if name == "method":  # it says which table this is; see below
            continue
        keys = workshop.keys(changed(study, path, section, name, values))
        differing = {stage for stage in keys if keys[stage] != before[stage]}
        if differing != expected(path):
            faults.append(f"{path} changes the keys of {differing or 'no stage'} and not of {expected(path)}")
    assert not faults, "\n".join(faults)


def test_every_table_that_a_study_can_hold_is_among_them(workshop):
    seen = {type(section) for _, section, _ in leaves(workshop.study)}
    assert sections_of(Study) - {Study} == seen


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_the_method_changes_what_is_trained(workshop):
    """Even where two methods have the same settings."""
    for place, variant in enumerate(workshop.study.variants):
        other = workshop.study.model_copy(update={"variants": [variant.model_copy(update={"method": "another"})]})
        assert workshop.keys(other)["train"] != [workshop.keys(workshop.study)["train"][place]]


def test_every_exception_names_a_setting(workshop):
    names = {re.sub(r"\.\d+", "", path) for path, _, _ in leaves(workshop.study)}
    assert EXCEPTIONS.keys() <= names
    assert ANOTHER.keys() <= {path for path, _, _ in leaves(workshop.study)}


def test_validations_that_choose_nothing_do_not_change_what_is_trained(workshop):
    keys = [
        workshop.keys(with_settings(workshop.study, {f"variants.{place}.validation": settings for place in (0, 1)}))
        for settings in ({}, CHOOSING | {"keep": "last", "seed": 3})
    ]
    assert keys[0]["train"] == keys[1]["train"]
