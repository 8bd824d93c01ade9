"""A whole study on the tiny base: drawn photos, a drawn reference, four variants, two prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.drawn import draw_subject, write_photos

LABELS = ["full", "lora-1", "lora-2", "on top"]  # of the trained variants, in the study's order

STUDY = """
[subject]
photos = "photos"
identifier = "sks"
class_noun = "cat face"
consent = "drawn by the tests"

[base]
model = "{base}"

[prepare]
focus = "center"

[[variants]]
method = "full"
checkpoint_every_steps = 2

[[variants]]
method = "lora"
rank = [1, 2]
prior_preservation = true

[[variants]]
name = "on top"
method = "lora"
start_from = "full"

[render]
seeds = [3]

[[render.prompts]]
name = "photo"
prompt = "a photo of {{subject}}"

[[render.prompts]]
name = "garden"
prompt = "{{subject}} in the garden"

[control]
seeds = [4]

[[control.references]]
name = "drawn"
image = "reference.png"
size = [72, 64]
"""


def write_study(folder: Path, base: Path, *, changes: dict[str, str] | None = None) -> Path:
    """Photos, reference and study.toml in `folder`; `changes` replaces pieces of the study's text."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "photos").exists():
        write_photos(folder / "photos")
        draw_subject((160, 120), 9).save(folder / "reference.png")
    text = STUDY.format(base=base)
    for old, new in (changes or {}).items():
        assert text.count(old) == 1, f"{old} stands {text.count(old)} times in the study"
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return folder / "study.toml"


@dataclass(frozen=True)
class Finished:
    """A study that ran to its report."""

    study: Path
    run: Path
    page: Path
