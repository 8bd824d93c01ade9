"""The whole corridor on the tiny base: what a run leaves, and what a second, a stopped and a changed run do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import limner.running.here
import limner.running.run
from limner.adapters import attached, load_adapter, load_trained
from limner.artifacts import AdapterFolder, RenderSet, hash_file, load_manifest, load_scores
from limner.base import encode_prompts, find_base, load_base
from limner.errors import StudyError
from limner.events import Notice, Progressed
from limner.opening import open_study
from limner.progress import Progress
from limner.records import LockFile
from limner.running.here import StageClock
from limner.running.record import read_events
from limner.study import Stage, run_study
from tests.studies import LABELS, Finished, write_study


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("corridor")
    study = write_study(folder, tiny_folder)
    return Finished(study, folder / "run", run_study(study, folder / "run"))


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    """The finished run, to be changed by a test."""
    return Path(shutil.copytree(finished.run, tmp_path / "run"))


class Stopping(Progress):
    """Presses Ctrl-C once `after` units of the activity `title` are done; remembers the notices."""

    def __init__(self, title: str, after: int):
        super().__init__(self.hear, every_seconds=0)
        self.title, self.after, self.done, self.said = title, after, 0, []

    def hear(self, event):
        if isinstance(event, Notice):
            self.said.append(event.message)
        if isinstance(event, Progressed) and event.title == self.title and event.step and not event.last:
            self.done = event.step
            if self.done >= self.after:
                raise KeyboardInterrupt


def contents(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    """Every file below a folder that matches, by its path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob(pattern)) if p.is_file()}


def written_at(folder: Path, pattern: str = "*") -> dict[str, tuple[int, int]]:
    """When each file was last written, and which file it is (a rewritten one is another)."""
    stats = {p.relative_to(folder).as_posix(): p.stat() for p in folder.rglob(pattern) if p.is_file()}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}


def made_things(run: Path) -> dict[str, bytes]:
    """All that must not depend on how often a run was stopped: pictures and weights."""
    return contents(run, "*.png") | contents(run / "adapters", "*.safetensors")


def no_weights(*arguments, **options):
    raise AssertionError("weights were loaded")


def output(base) -> torch.Tensor:
    """UNet output (1, 4, 8, 8) for a fixed input and prompt, through the text encoder."""
    embeds = encode_prompts(base.tokenizer, base.text_encoder, ["a photo of sks cat face"])
    with torch.no_grad():
        return base.unet(torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8), 500, embeds).sample


def test_a_run_leaves_the_folder_that_other_tools_rely_on(finished):
    run = finished.run
    assert finished.page == run / "report" / "index.html"
    assert {path.name for path in run.iterdir()} == {
        "study.toml", "study.lock.json", "photos", "class", "work", "adapters", "renders", "control", "scores.json",
        "report", "events.jsonl",
    }  # fmt: skip
    columns, rows = ["base", *LABELS], ["photo", "garden"]
    assert {f"{c}/{r}/3.png" for c in columns for r in rows} == set(contents(run / "renders", "*.png"))
    conditioned = {f"{c}/drawn/4.png" for c in columns}
    drawn = {"conditioning/drawn.png", "conditioning/drawn-canny.png"}
    assert set(contents(run / "control", "*.png")) == conditioned | drawn
    assert {path.name for path in (run / "adapters").iterdir()} == set(LABELS)
    assert {"index.html", "README.md", "images"} <= {path.name for path in (run / "report").iterdir()}
    assert set(contents(run / "class", "*.png")) == {"0000.png", "0001.png", "0002.png"}
    assert (run / "study.toml").read_bytes() == finished.study.read_bytes()
    assert not list(run.rglob(".unfinished-*"))
    assert not list((run / "work").rglob("step-*")), "resumable states are of no use once the adapter is whole"


def test_every_record_of_a_run_is_what_its_model_says_no_field_more_or_less(finished):
    folders = [path.parent for path in finished.run.rglob("manifest.json")]
    assert len(folders) == 9  # photos, class, four adapters, renders, control, report
    for folder in folders:
        assert load_manifest(folder).to_json() == json.loads((folder / "manifest.json").read_text())
    scores = finished.run / "scores.json"
    assert load_scores(scores).to_json() == json.loads(scores.read_text())
    lock = json.loads((finished.run / "study.lock.json").read_text())
    assert LockFile.model_validate(lock).to_json() == lock


def test_the_photo_set_says_where_each_crop_came_from(finished):
    record = json.loads((finished.run / "photos" / "manifest.json").read_text())
    assert [photo["source"] for photo in record["photos"]] == [f"photo-{index}.png" for index in range(5)]
    assert [photo["file"] for photo in record["photos"]] == [f"{index:04d}.png" for index in range(5)]
    for photo in record["photos"]:
        assert {"source", "file", "size", "crop", "focus", "head", "notes", "warnings", "caption"} < photo.keys()
        assert (photo["crop_size"], photo["repeats"]) == (None, 1)
        assert photo["crop"].keys() == {"x0", "y0", "x1", "y1"}
        assert photo["crop"]["x1"] - photo["crop"]["x0"] == photo["crop"]["y1"] - photo["crop"]["y0"] > 0
    assert record["refused"] == []
    assert record["files"].keys() == {"contact.jpg", *(photo["file"] for photo in record["photos"])}
    assert record["made"]["seconds"] > 0


def test_every_picture_has_its_scores(finished):
    rows = json.loads((finished.run / "scores.json").read_text())["rows"]
    keys = {
        "variant", "prompt", "reference", "seed", "image_index", "training_seed", "conditioning_scale", "metric",
        "value",
    }  # fmt: skip
    assert all(row.keys() == keys for row in rows)
    for metric in ("likeness/efficientnet-lite0", "copying/efficientnet-lite0", "prompt_fidelity/base"):
        scored = [(row["variant"], row["reference"] or row["prompt"]) for row in rows if row["metric"] == metric]
        wanted = [(c, r) for c in ["base", *LABELS] for r in ("photo", "garden", "drawn")]
        assert sorted(scored) == sorted(wanted), metric
    gains = {row["variant"] for row in rows if row["metric"].startswith("likeness_gain/")}
    assert gains == set(LABELS)
    assert {row["reference"] for row in rows if row["metric"] == "edge_agreement"} == {"drawn"}


def test_the_lock_file_holds_what_was_done_with_what(finished, tiny_folder):
    lock = json.loads((finished.run / "study.lock.json").read_text())
    assert lock["study"]["render"]["prompts"][1]["prompt"] == "{subject} in the garden"
    assert lock["study"]["variants"][0]["learning_rate"] == 1e-3
    assert lock["study"]["variants"][0]["batch_size"] == 1
    origins = lock["origins"]
    assert origins["prepare.focus"] == "study"
    assert origins["variants.0.learning_rate"] == "limner.json"
    assert origins["variants.0.batch_size"] == "default"
    assert lock["base"] == {"name": str(tiny_folder), "content_hash": find_base(str(tiny_folder)).content_hash}
    photo_files = json.loads((finished.run / "photos" / "manifest.json").read_text())["files"]
    assert photo_files["0000.png"] == hash_file(finished.run / "photos" / "0000.png")
    assert len(lock["photos"]["content_hash"]) == 64
    assert lock["consent"] == "drawn by the tests"
    assert {"torch", "diffusers", "transformers"} <= lock["machine"]["versions"].keys()
    assert lock["device"] == "cpu"


def test_the_report_shows_every_picture_and_the_consent(finished):
    page = finished.page.read_text(encoding="utf-8")
    assert "drawn by the tests" in page
    assert page.count("data:image/") >= 5 + 3 * 5  # photos, and three rows of five columns
    assert set(contents(finished.run / "renders", "*.png")) == set(
        contents(finished.run / "report" / "images" / "renders", "*.png")
    )


def test_training_moved_the_weights_of_every_variant(finished, tiny_base):
    full = load_adapter(finished.run / "adapters" / "full")
    for name, state in full.full.items():
        own = tiny_base.modules()[name].state_dict()
        moved = [key for key, tensor in state.items() if not torch.equal(tensor, own[key].to(tensor.dtype))]
        assert len(moved) > 0.9 * len(own), f"{name}: {len(moved)} of {len(own)} tensors moved"
    for label in LABELS[1:]:
        updates = load_adapter(finished.run / "adapters" / label).low_rank["unet"]
        assert len(updates) > 100
        assert all(update.up.abs().max() > 0 for update in updates.values()), label
    assert {u.rank for u in load_adapter(finished.run / "adapters" / "lora-2").low_rank["unet"].values()} == {2}


def test_a_lora_on_a_full_result_stores_only_its_own_part_and_names_the_other(finished):
    folder = finished.run / "adapters" / "on top"
    assert set(contents(folder)) == {"manifest.json", "pytorch_lora_weights.safetensors"}
    start = AdapterFolder(folder).record.start_from.to_json()
    beside = AdapterFolder(finished.run / "adapters" / "full")
    assert start == {"label": "full", "content_hash": beside.content_hash}
    assert load_trained(AdapterFolder(folder)).fixed_hash == load_trained(beside).fixed_hash != ""


@pytest.mark.parametrize("label", LABELS)
def test_removing_an_adapter_restores_the_bases_output_exactly(finished, tiny_base, label):
    before = output(tiny_base)
    with attached(tiny_base.modules(), load_trained(AdapterFolder(finished.run / "adapters" / label))):
        assert not torch.allclose(output(tiny_base), before, atol=1e-4)
    assert torch.equal(output(tiny_base), before)


def test_every_variant_draws_something_else(finished):
    for name, row in (("renders", "photo/3.png"), ("renders", "garden/3.png"), ("control", "drawn/4.png")):
        pictures = [(finished.run / name / column / row).read_bytes() for column in ["base", *LABELS]]
        assert len(set(pictures)) == 5


def test_the_cells_say_what_was_drawn(finished):
    cells = {cell.file: cell for cell in RenderSet(finished.run / "renders").cells}
    assert cells["base/photo/3.png"].text == "a photo of cat face"
    assert cells["on top/photo/3.png"].text == "a photo of sks cat face"
    assert all(cell.size == (64, 64) for cell in cells.values())
    assert {cell.size for cell in RenderSet(finished.run / "control").cells} == {(72, 64)}


def test_the_same_study_elsewhere_gives_the_same_bytes(finished, tiny_folder, tmp_path):
    study = write_study(tmp_path / "elsewhere", tiny_folder)
    run_study(study, tmp_path / "other", until="control")
    wanted = {n: c for n, c in made_things(finished.run).items() if not n.startswith("report/")}
    assert made_things(tmp_path / "other") == wanted


def test_a_repeated_run_does_nothing(finished, monkeypatch):
    monkeypatch.setattr(limner.running.run, "load_base", no_weights)
    events = finished.run / "events.jsonl"
    told = events.read_bytes()
    before, files = written_at(finished.run), contents(finished.run)
    assert run_study(finished.study, finished.run) == finished.page
    said, _ = read_events(finished.run, len(told))
    assert [(event.type, getattr(event, "tasks", None)) for event in said] == [("started", 0), ("ended", None)]
    events.write_bytes(told)
    os.utime(events, ns=(before["events.jsonl"][0],) * 2)
    assert written_at(finished.run) == before
    assert contents(finished.run) == files


def test_stopped_again_and_again_it_ends_with_the_same_bytes(finished, tiny_folder, tmp_path):
    study, run = write_study(tmp_path / "again", tiny_folder), tmp_path / "again" / "run"
    stops: list[tuple[str, int, Stage]] = [
        ("prepare", 2, "prepare"),
        ("class-images", 1, "class-images"),
        ("train full", 1, "train"),
        ("train full", 3, "train"),
        ("train lora-1, lora-2", 2, "train"),
        ("train on top", 1, "train"),
        ("render", 3, "render"),
        ("control", 2, "control"),
    ]
    kept: dict[str, tuple[int, int]] = {}
    for title, after, stage in stops:
        stopping = Stopping(title, after)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, run, until=stage, progress=stopping)
        assert stopping.done >= after
        assert not list(tmp_path.rglob(".unfinished-*"))
        now = written_at(run, "*.png")
        assert kept.items() <= now.items(), f"{title}: a picture that was whole was made again"
        kept = now
    going_on = Stopping("", 1)
    run_study(study, run, until="control", progress=going_on)
    assert kept.items() <= written_at(run, "*.png").items()
    wanted = {n: c for n, c in made_things(finished.run).items() if not n.startswith("report/")}
    assert made_things(run) == wanted


def test_a_stopped_training_goes_on_after_its_last_step(finished, tiny_folder, tmp_path):
    study, run = write_study(tmp_path / "again", tiny_folder), tmp_path / "again" / "run"
    with pytest.raises(KeyboardInterrupt):
        run_study(study, run, until="train", progress=Stopping("train full", 2))
    going_on = Stopping("", 1)
    run_study(study, run, until="train", progress=going_on)
    assert "full: continuing after step 2 of 3" in going_on.said
    wanted = contents(finished.run / "adapters", "*.safetensors")
    assert contents(run / "adapters", "*.safetensors") == wanted


def test_another_prompt_renders_only_its_own_row(finished, copied, tiny_folder, tmp_path):
    study = write_study(tmp_path / "changed", tiny_folder, changes={"in the garden": "in the snow"})
    before, pictures = written_at(copied), contents(copied / "renders", "*.png")
    run_study(study, copied, until="render")
    rewritten = {name for name, when in written_at(copied).items() if before.get(name) != when}
    cells = {f"renders/{column}/garden/3.png" for column in ["base", *LABELS]}
    assert rewritten == cells | {"renders/manifest.json", "study.toml", "study.lock.json", "events.jsonl"}
    assert all(contents(copied / "renders", "*.png")[n] != c for n, c in pictures.items() if "garden" in n)


@pytest.mark.parametrize("damage", ["gone", "cut"])
@pytest.mark.parametrize("file", ["renders/lora-2/garden/3.png", "control/full/drawn/4.png", "class/0001.png"])
def test_a_lost_picture_is_made_again_to_the_same_bytes(finished, copied, file, damage):
    picture, wanted = copied / file, (copied / file).read_bytes()
    picture.unlink() if damage == "gone" else picture.write_bytes(wanted[:100])
    before = written_at(copied, "*.png")
    run_study(finished.study, copied, until="control")
    assert picture.read_bytes() == wanted
    rewritten = {name for name, when in written_at(copied, "*.png").items() if before.get(name) != when}
    assert rewritten == {file}


def test_other_steps_train_that_variant_and_what_starts_from_it(copied, tiny_folder, tmp_path):
    changes = {"checkpoint_every_steps = 2": "steps = 2"}
    study = write_study(tmp_path / "changed", tiny_folder, changes=changes)
    before = written_at(copied / "adapters", "*.safetensors")
    run_study(study, copied, until="train")
    after = written_at(copied / "adapters", "*.safetensors")
    retrained = {name.split("/")[0] for name, when in after.items() if before[name] != when}
    assert retrained == {"full", "on top"}


def test_another_vae_counts_by_content_and_a_safety_checker_only_for_renders(tiny_folder, tmp_path):
    base = Path(shutil.copytree(tiny_folder, tmp_path / "base"))
    vae = Path(shutil.copytree(tiny_folder / "vae", tmp_path / "vae"))
    study = write_study(tmp_path / "study", base, changes={"[prepare]": f'vae = "{vae}"\n\n[prepare]'})
    first = open_study(study).base_hash
    assert first != open_study(study).base.content_hash
    weights = next(vae.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    other = open_study(study).base_hash
    assert other != first, "another content under the same name"
    assert open_study(study).rendering_hash == other, "the base has no safety checker"
    for part in ("safety_checker", "feature_extractor"):
        (base / part).mkdir()
        (base / part / "config.json").write_text("{}")
    assert open_study(study).base_hash == other
    checked = open_study(study).rendering_hash
    assert checked != other
    off = {"[prepare]": f'vae = "{vae}"\nsafety_checker = false\n\n[prepare]'}
    study = write_study(tmp_path / "study", base, changes=off)
    assert open_study(study).rendering_hash == other


def test_a_vae_that_is_not_there_is_a_fault_of_the_study(tiny_folder, tmp_path):
    study = write_study(tmp_path / "study", tiny_folder, changes={"[prepare]": 'vae = "absent"\n\n[prepare]'})
    with pytest.raises(StudyError, match=r'base\.vae "absent" does not exist'):
        open_study(study)


def test_another_vae_is_used(tiny_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    vae = Path(shutil.copytree(tiny_folder / "vae", tmp_path / "vae"))
    file = next(vae.glob("*.safetensors"))
    state = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    loaded = load_base(find_base(str(tiny_folder)), vae=vae).vae.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_the_clock_names_the_stages_that_took_a_second_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Stopping("", -1)
    ticks = iter([0.0, 0.4, 60.4, 62.4])
    monkeypatch.setattr(limner.running.here.time, "monotonic", lambda: next(ticks))
    clock = StageClock()
    for stage in ("prepare", "train", "render"):
        clock.ends(stage)
    clock.tell(progress)
    assert progress.said == ["took 62 s: train 60 s, render 2 s"]


def test_the_clock_is_silent_where_all_was_current(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Stopping("", -1)
    monkeypatch.setattr(limner.running.here.time, "monotonic", lambda: 5.0)
    clock = StageClock()
    clock.ends("prepare")
    clock.tell(progress)
    assert progress.said == []
