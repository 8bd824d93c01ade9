"""Wrong input: one line that says what, which value and what to do; exit code 2; no weight loaded; nothing left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import limner.quick_look
import limner.running.run
from limner.artifacts import Manifest, PhotoSet, write_manifest
from tests import recorded
from tests.drawn import draw_subject, write_photos
from tests.studies import write_study


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch):
    """Loading weights is a failure (exit code 1), not wrong input."""

    def refuse(*arguments, **options):
        raise AssertionError("weights were loaded")

    for module in (limner.running.run, limner.quick_look):
        monkeypatch.setattr(module, "load_base", refuse)


@pytest.fixture(autouse=True)
def _no_extras(monkeypatch):
    """The optional packages are absent, whatever this machine has."""
    monkeypatch.setattr("limner.training.log.find_spec", lambda name: None)


@pytest.fixture
def place(tiny_folder, tmp_path, monkeypatch) -> Path:
    """A folder with photos, a reference and room for a study."""
    folder = tmp_path / "place"
    write_study(folder, tiny_folder)
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Every file and folder, so that one thing more or less is seen."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def full_disk(path):
    return SimpleNamespace(total=10**9, used=10**9, free=0)


def assert_refused(ended, *said: str) -> None:
    """Exit code 2, nothing on standard output, and one line on standard error that says all of `said`."""
    assert ended.code == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("limner: ")
    assert ended.err.count("\n") == 1, ended.err
    assert "Traceback" not in ended.err
    for piece in said:
        assert piece in ended.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('photos = "photos"', 'photos = "nowhere"', ["subject.photos: there is no folder", "nowhere"]),
        ("[prepare]", "[prepare]\nsise_px = 64", ["prepare.sise_px: unknown key", "settings reference"]),
        ("[control]", "[controls]", ["controls: unknown key"]),
        ("[render]", "[render]\nsize = [100, 64]", ["render.size", "multiple of 8", "100"]),
        ("[render]", "[render]\nsampler = 'dim'", ["render.sampler", "'ddim'", "'dim'"]),
        ('image = "reference.png"', 'image = "lost.png"', ["control.references.drawn.image", "no file", "lost.png"]),
        ('start_from = "full"', 'start_from = "ful"', ['start_from = "ful" names no variant', "lora-2"]),
        ('prompt = "a photo of {subject}"', 'prompt = "a {thing}"', ["render.prompts.1.prompt", "thing", "{subject}"]),
        ("[render]", "[render", ["cannot be read as TOML"]),
        ("checkpoint_every_steps = 2", "log_to = ['wandb']", ["full: ", "wandb", "pip install"]),
    ],
)  # fmt: skip
def test_a_faulty_study(place, tiny_folder, limner, old, new, said):
    write_study(place, tiny_folder, changes={old: new})
    before = files(place)
    assert_refused(limner("run", "study.toml"), "study.toml: ", *said)
    assert files(place) == before


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nothing", ['base.model "nothing" is unknown', '"miniature"']),
        ("absent.safetensors", ["there is no file absent.safetensors"]),
        ("model.ckpt", ["pickle"]),
        ("photos", ["photos is not a Stable Diffusion folder", "unet"]),
    ],
)
def test_an_unknown_base(place, limner, model, said):
    write_study(place, Path(model))
    before = files(place)
    assert_refused(limner("run", "study.toml"), *said)
    assert files(place) == before


def test_prior_preservation_without_class_images(place, tiny_folder, limner):
    write_study(place, tiny_folder, changes={"[prepare]": "[class_images]\ncount = 0\n\n[prepare]"})
    ended = limner("run", "study.toml")
    assert ended.code == 2
    assert [line.split(":")[0] for line in ended.err.splitlines()[1:]] == ["  - full", "  - lora-1", "  - lora-2"]
    assert "class_images.count is 0" in ended.err


def test_all_faults_are_listed_at_once(place, tiny_folder, limner):
    changes = {"[prepare]": "[prepare]\nsise_px = 64", "[render]": "[render]\nsize = [100, 64]"}
    write_study(place, Path("nothing"), changes=changes)
    ended = limner("run", "study.toml")
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("  - ") for line in lines[1:])
    assert all(any(piece in line for line in lines) for piece in ("nothing", "sise_px", "render.size"))


@pytest.mark.parametrize("command", ["run", "train", "render", "control", "measure", "report"])
def test_a_study_that_is_not_there(place, limner, command):
    before = files(place)
    assert_refused(limner(command, "absent.toml"), "absent.toml: there is no such file")
    assert files(place) == before


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_no_photo(place, limner, content):
    shutil.rmtree("photos")
    Path("photos").mkdir()
    if content:
        Path("photos/notes.txt").write_bytes(content)
    before = files(place)
    assert_refused(limner("run", "study.toml"), "photos holds no photo", "PNG, JPEG")
    assert_refused(limner("prepare", "photos", "--out", "crops"), "photos holds no photo", "PNG, JPEG")
    assert_refused(limner("demo", "--photos", "photos"), "photos holds no photo", "PNG, JPEG")
    assert files(place) == before


def test_no_photo_that_can_be_used(place, limner):
    for photo in Path("photos").iterdir():
        photo.write_bytes(b"no picture at all")
    before = files(place)
    for arguments in (["run", "study.toml"], ["prepare", "photos", "--out", "a/crops"], ["demo", "--photos", "photos"]):
        ended = limner(*arguments)
        assert ended.code == 2
        assert "can be used" in ended.err.splitlines()[-1]
        assert "photo-3.png" in ended.err.splitlines()[-1]
        assert files(place) == before


def test_strict_refuses_what_would_be_left_out(place, limner):
    Path("photos/broken.jpg").write_bytes(b"no picture at all")
    before = files(place)
    ended = limner("run", "study.toml", "--strict")
    assert ended.code == 2
    assert "--strict" in ended.err.splitlines()[-1]
    assert "broken.jpg" in ended.err.splitlines()[-1]
    assert files(place) == before


@pytest.mark.parametrize("command", [["demo", "--photos"], ["prepare", "--out", "crops"]])
def test_a_photo_folder_that_is_not_there(place, limner, command):
    before = files(place)
    assert_refused(limner(*command, "nowhere"), "there is no", "folder", "nowhere")
    assert files(place) == before


@pytest.mark.parametrize("command", [["run", "study.toml"], ["train", "study.toml"], ["demo"]])
def test_a_full_disk(place, limner, monkeypatch, command):
    monkeypatch.setattr(shutil, "disk_usage", full_disk)
    before = files(place)
    assert_refused(limner(*command, "--out", "new/run"), "needs about", "has 0 MiB free", "choose another --out")
    assert files(place) == before


@pytest.mark.parametrize("command", [["run", "study.toml"], ["prepare", "photos"], ["demo"]])
@pytest.mark.parametrize("out", ["taken", "taken/run"])
def test_a_file_where_the_run_should_go(place, limner, command, out):
    Path("taken").write_text("mine")
    before = files(place)
    assert_refused(limner(*command, "--out", out), "taken is a file", "choose another --out")
    assert files(place) == before


def test_photos_that_would_be_replaced(place, limner):
    before = files(place)
    assert_refused(limner("prepare", "photos", "--out", "photos"), "holds the photos themselves", "--out")
    assert files(place) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "100"], ["--size_px", "multiple of 8", "100"]),
        (["--focus", "left"], ["--focus", "'center'", "'left'"]),
    ],
)
def test_settings_of_prepare(place, limner, options, said):
    before = files(place)
    assert_refused(limner("prepare", "photos", "--out", "crops", *options), *said)
    assert files(place) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos", "--prompt", "a cat"], ["photos", "neither a study file", "trained adapter"]),
        (["adapter"], ["--prompt"]),
        (["adapter", "--prompt", "a cat"], ["--base"]),
        (["adapter", "--prompt", "a cat", "--base", "nothing"], ['base.model "nothing" is unknown']),
        (["adapter", "--prompt", "a {subject}", "--base", "miniature"], ["unknown placeholder", "subject"]),
        (["adapter", "--prompt", "a cat", "--base", "miniature"], ["adapter", "holds no adapter"]),
        (["adapter", "--prompt", "a cat", "--base", "miniature", "--out", "study.toml/x.png"], ["is a file"]),
    ],
)
def test_a_quick_look_that_cannot_be_had(place, limner, arguments, said):
    Path("adapter").mkdir()  # a record without weights
    write_manifest(Path("adapter"), Manifest("train", 1, "", {}, {}, {}, record=recorded.adapter("adapter")))
    before = files(place)
    assert_refused(limner("render", *arguments), *said)
    assert files(place) == before


def test_an_unknown_device(place, limner):
    assert_refused(limner("run", "study.toml", "--device", "tpu"), '"tpu" is unknown', "cuda", "cpu")


def test_too_few_class_pictures_of_ones_own(place, tiny_folder, limner):
    write_photos(place / "own")
    changes = {"[prepare]": '[class_images]\nfolder = "own"\ncount = 6\n\n[prepare]'}
    write_study(place, tiny_folder, changes=changes)
    ended = limner("run", "study.toml")
    assert ended.code == 2
    assert "holds 5 pictures that can be used and count is 6" in ended.err.splitlines()[-1]


@pytest.mark.parametrize("command", ["run", "train", "render", "control", "measure", "report"])
def test_a_photo_that_is_too_small_is_kept_by_every_command_that_prepares(place, limner, command):
    draw_subject((60, 40), 8).save("photos/small.png")
    draw_subject((50, 40), 9).save("photos/smaller.png")
    assert_refused(limner(command, "study.toml", "--keep", "gone.png"), "no photo gone.png to keep")
    limner(command, "study.toml", "--out", "out", "--keep", "small.png")  # goes on until weights are asked for
    photo_set = PhotoSet(Path("out/photos"))
    assert "small.png" in [photo.source for photo in photo_set.photos]
    assert [refusal.source for refusal in photo_set.refused] == ["smaller.png"]
    lock = json.loads(Path("out/study.lock.json").read_text())
    assert (lock["study"]["prepare"]["keep"], lock["origins"]["prepare.keep"]) == (["small.png"], "--keep")
