"""What is known of a study before any weight is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from limner.config import expand_variants
from limner.errors import StudyError
from limner.memory import adapter_bytes, read_shapes
from limner.opening import expected_bytes, open_study
from tests.drawn import draw_subject

STUDY = """
[subject]
photos = "photos"
class_noun = "cat"
[base]
model = "base"
[[variants]]
method = "lora"
[[render.prompts]]
name = "photo"
prompt = "a photo of {subject}"
[control]
model = "own-controlnet"
[[control.references]]
name = "drawn"
image = "drawn.png"
"""


@pytest.fixture
def study_folder(tiny_folder: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, its base, its ControlNet, its photos and its reference; the command runs elsewhere."""
    folder = tmp_path / "studies"
    shutil.copytree(tiny_folder, folder / "base")
    shutil.copytree(tiny_folder / "controlnet", folder / "own-controlnet")
    shutil.copytree(photo_folder, folder / "photos")
    draw_subject((96, 96), 3).save(folder / "drawn.png")
    (folder / "study.toml").write_text(STUDY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_models_beside_the_study_file_are_found_wherever_the_command_runs(study_folder):
    opened = open_study(study_folder / "study.toml")
    assert opened.base.path == study_folder / "base"
    assert opened.study.control is not None
    assert opened.study.control.model == str(study_folder / "own-controlnet")
    assert opened.study.prepare.size_px == 64  # the base's limner.json was read


def test_a_reference_that_is_no_picture_is_a_fault_of_the_study(study_folder):
    (study_folder / "drawn.png").write_bytes(b"<html>404</html>")
    with pytest.raises(StudyError, match=r"control.references.drawn.image: .*is not a picture"):
        open_study(study_folder / "study.toml")


def test_a_controlnet_of_another_model_is_a_fault_of_the_study(study_folder):
    config = study_folder / "own-controlnet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"cross_attention_dim": 1024}))
    with pytest.raises(StudyError, match="cross_attention_dim 1024 and the base 16"):
        open_study(study_folder / "study.toml")


def test_all_faults_of_both_kinds_are_told_at_once(study_folder):
    (study_folder / "drawn.png").unlink()
    shutil.rmtree(study_folder / "photos")
    shutil.rmtree(study_folder / "own-controlnet")
    with pytest.raises(StudyError) as error:
        open_study(study_folder / "study.toml")
    assert len(error.value.faults) == 3


def test_disk_is_asked_for_what_waits_to_be_chosen_from(study_folder):
    file = study_folder / "study.toml"
    rule = '[variants.validation]\nevery_steps = 2\nkeep = "best"\nneighbours = 2\n[[render.prompts]]'

    def asked(variant: str, validation: str) -> tuple[int, list[int]]:
        text = STUDY.replace('method = "lora"', variant).replace("[[render.prompts]]", validation)
        file.write_text(text, encoding="utf-8")
        opened = open_study(file)
        runs, shapes = expand_variants(opened.study.variants), read_shapes(opened.base)
        return expected_bytes(opened), [adapter_bytes(run, shapes) for run in runs]

    for variant in ('method = "full"', 'method = "lora"\nrank = [1, 2]'):  # those trained together keep all of theirs
        without, sizes = asked(variant, "[[render.prompts]]")
        with_choice, _ = asked(variant, rule)
        assert min(sizes) > 0
        assert with_choice - without == (2 + 2) * sum(sizes)
