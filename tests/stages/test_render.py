"""The render stage: what is made, what is kept, what is remade."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import RenderSet, read_manifest
from limner.config import Render, Subject
from limner.errors import DiskError, InputError, PromptError
from limner.rendering import read_stamp
from limner.stages.context import Context
from limner.stages.render import render
from tests.rendering.folders import Recorder, adapter_folder, full_folder, lora_folder, never, pngs

SUBJECT = Subject(photos="photos", identifier="sks", class_noun="cat")


def settings(**more):
    rows = more.pop("prompts", {"garden": "photo of {subject}, in a garden", "night": "{subject} at night"})
    prompts = [{"name": name, "prompt": prompt} for name, prompt in rows.items()]
    return Render(**{"steps": 2, "size": (64, 64), "batch_size": 3, "prompts": prompts, **more})


@pytest.fixture
def stage(tiny_base, tmp_path):
    """Runs the stage into one folder; keeps count of how often the base was asked for."""

    class Stage:
        out = tmp_path / "renders"
        loads = 0

        def base(self):
            self.loads += 1
            return tiny_base

        def __call__(self, adapters=(), base=None, progress=None, **more):
            context = Context(SUBJECT, base or self.base, "base hash", progress=progress or Recorder())
            return render(context, settings(**more), adapters, self.out)

    return Stage()


def weights(base):
    return {f"{m}.{n}": t.clone() for m, module in base.modules().items() for n, t in module.state_dict().items()}


def test_the_grid_is_base_first_then_variants_each_with_its_own_pictures(stage, tiny_base, tmp_path):
    before = weights(tiny_base)
    adapters = [full_folder(tmp_path, tiny_base), lora_folder(tmp_path, tiny_base, training_seed=4)]
    result = stage(adapters, seeds=[42, 7], images_per_seed=2, lora_scales=[1.0, 0.5])
    assert isinstance(result, RenderSet)
    variants = list(dict.fromkeys(cell.variant for cell in result.cells))
    assert variants == ["base", "dreambooth", "lora-2", "lora-2x0.5"]
    assert len(result.cells) == 4 * 2 * 2 * 2
    first, last = result.cells[0], result.cells[-1]
    assert (first.file, first.text, first.lora_scale) == ("base/garden/42.png", "photo of cat, in a garden", None)
    assert (last.file, last.text) == ("lora-2x0.5/night/7-1.png", "sks cat at night")
    assert (last.lora_scale, last.training_seed, last.size, last.flagged) == (0.5, 4, (64, 64), None)
    pictures = [np.asarray(Image.open(result.path(cell))).tobytes() for cell in result.cells]
    assert len(set(pictures)) == len(pictures)
    after = weights(tiny_base)
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_a_second_run_loads_nothing_and_says_nothing(stage, tiny_base, tmp_path):
    adapters = [lora_folder(tmp_path, tiny_base)]
    stage(adapters)
    before, progress = pngs(stage.out), Recorder()
    made = read_manifest(stage.out).made
    stage(adapters, base=never, progress=progress, batch_size=1)  # the batch size changes no picture
    assert pngs(stage.out) == before
    assert (progress.notices, progress.tasks) == ([], [])
    assert read_manifest(stage.out).made == made


def test_a_removed_or_damaged_picture_alone_is_remade_to_the_same_bytes(stage, tiny_base, tmp_path):
    adapters = [full_folder(tmp_path, tiny_base), lora_folder(tmp_path, tiny_base)]
    stage(adapters, seeds=[1, 2])
    before = pngs(stage.out)
    (stage.out / "lora-2/garden/2.png").unlink()
    (stage.out / "dreambooth/night/1.png").write_bytes(before["dreambooth/night/1.png"][:-200])
    times = {name: (stage.out / name).stat().st_mtime_ns for name in before if (stage.out / name).exists()}
    progress = Recorder()
    stage(adapters, seeds=[1, 2], progress=progress)
    assert pngs(stage.out) == before
    touched = {name for name, time in times.items() if (stage.out / name).stat().st_mtime_ns != time}
    assert touched == {"dreambooth/night/1.png"}
    assert (progress.tasks, progress.units) == ([("render", 2)], 2)


def test_a_picture_changed_behind_our_back_is_remade(stage):
    stage()
    path = stage.out / "base/garden/42.png"
    whole = path.read_bytes()
    with Image.open(path) as picture:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("limner", picture.info["limner"])
        picture.convert("L").convert("RGB").save(path, pnginfo=info)
    stage()
    assert path.read_bytes() == whole


def test_an_interrupted_grid_goes_on_and_ends_as_if_it_had_not_been(stage, tiny_base, tmp_path):
    adapters = [lora_folder(tmp_path, tiny_base)]
    context = Context(SUBJECT, lambda: tiny_base, "base hash")
    whole = render(context, settings(seeds=[1, 2, 3, 4]), adapters, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        stage(adapters, seeds=[1, 2, 3, 4], progress=Recorder(interrupt_after=6))
    kept = pngs(stage.out)
    assert len(kept) == 6
    assert read_manifest(stage.out) is None
    progress = Recorder()
    stage(adapters, seeds=[1, 2, 3, 4], progress=progress)
    assert progress.units == 16 - 6
    assert pngs(stage.out) == pngs(whole.folder)
    assert not list(stage.out.rglob(".unfinished-*"))


def test_a_new_prompt_adds_only_its_cells_and_a_dropped_one_takes_its_own_away(stage):
    stage()
    before = pngs(stage.out)
    (stage.out / "base" / "mine.png").write_bytes(_foreign_png())
    progress = Recorder()
    prompts = {"night": "{subject} at night", "snow": "{subject} in the snow"}
    result = stage(prompts=prompts, progress=progress)
    after = pngs(stage.out)
    assert progress.units == 1
    assert after["base/night/42.png"] == before["base/night/42.png"]
    assert "base/garden/42.png" not in after
    assert not (stage.out / "base/garden").exists()
    assert "base/mine.png" in after  # not limner's, so not limner's to remove
    assert [cell.prompt for cell in result.cells] == ["night", "snow"]


def test_only_the_cells_of_a_changed_variant_are_remade(stage, tiny_base, tmp_path):
    adapters = [full_folder(tmp_path, tiny_base), lora_folder(tmp_path, tiny_base)]
    stage(adapters)
    before = pngs(stage.out)
    adapters[1] = lora_folder(tmp_path, tiny_base, alpha=9.0)
    stage(adapters)
    changed = {name for name, content in pngs(stage.out).items() if before[name] != content}
    assert changed == {"lora-2/garden/42.png", "lora-2/night/42.png"}


@pytest.mark.parametrize(
    "change", [{"steps": 3}, {"sampler": "euler"}, {"guidance_scale": 2.0}, {"negative_prompt": "ugly"}]
)
def test_every_setting_counts(stage, change):
    stage()
    before = pngs(stage.out)
    stage(**change)
    assert all(before[name] != content for name, content in pngs(stage.out).items())


def test_each_picture_says_what_it_is(stage, tiny_base, tmp_path):
    adapters = [lora_folder(tmp_path, tiny_base)]
    result = stage(adapters, negative_prompt="blurry, ugly")
    cell = result.cells[-1]
    stamp = read_stamp(result.path(cell))
    assert (stamp["variant"], stamp["prompt"], stamp["seed"]) == ("lora-2", "sks cat at night", 42)
    assert stamp["key"] == read_manifest(stage.out).record.keys[cell.file]
    lines = Image.open(result.path(cell)).info["parameters"].split("\n")
    assert lines[:2] == ["sks cat at night <lora:lora-2:1>", "Negative prompt: blurry, ugly"]
    assert f'Lora hashes: "lora-2: {adapters[0].content_hash[:10]}"' in lines[2]


def test_a_prompt_with_its_own_size_and_negative_prompt(stage):
    rows = [
        {"name": "wide", "prompt": "{subject}", "size": (96, 64), "negative_prompt": "snow"},
        {"name": "square", "prompt": "{subject}"},
    ]
    asked = Render(steps=1, size=(64, 64), negative_prompt="ugly", prompts=rows)
    result = render(Context(SUBJECT, stage.base, "h"), asked, [], stage.out)
    assert [(cell.size, cell.negative_prompt) for cell in result.cells] == [((96, 64), "snow"), ((64, 64), "ugly")]
    assert Image.open(result.path(result.cells[0])).size == (96, 64)


def test_long_and_nameless_prompts_are_told_of(stage):
    progress = Recorder()
    prompts = {"long": "{subject} " + "snow " * 90, "other": "a dog in the snow"}
    stage(prompts=prompts, progress=progress)
    assert any('"long" has 94 tokens; the last 17 are not read' in notice for notice in progress.notices)
    assert any('"other" does not name "sks"' in notice for notice in progress.notices)


def test_a_prompt_that_loses_its_subject_is_refused_before_anything_is_rendered(stage):
    with pytest.raises(PromptError, match='"late" has 94 tokens'):
        stage(prompts={"fine": "{subject}", "late": "snow " * 90 + "{subject}"})
    assert not pngs(stage.out)


@pytest.mark.parametrize(("before", "refused"), [(73, False), (74, True)])
def test_the_last_token_that_counts(stage, before, refused):
    prompts = {"edge": "snow " * before + "{subject} garden garden"}
    if refused:
        with pytest.raises(PromptError, match="name the subject earlier"):
            stage(prompts=prompts, steps=1)
    else:
        stage(prompts=prompts, steps=1)


def test_no_prompts_and_a_file_in_the_way(stage):
    with pytest.raises(InputError, match=r"render\.prompts is empty"):
        stage(prompts={}, base=never)
    stage.out.write_text("in the way")
    with pytest.raises(DiskError, match="is a file"):
        stage(base=never)


def test_a_lora_on_top_of_a_full_result_is_rendered_with_both(stage, tiny_base, tmp_path):
    from limner.adapters import Adapter, LowRankUpdates
    from tests.adapters.test_adapter import random_low_rank

    full = full_folder(tmp_path / "adapters", tiny_base)
    low_rank = random_low_rank(tiny_base, 2, 5.0)
    adapter_folder(tmp_path / "adapters" / "top", Adapter.of("top", LowRankUpdates(low_rank)), start=full)
    from limner.artifacts import AdapterFolder

    adapters = [full, lora_folder(tmp_path / "adapters", tiny_base), AdapterFolder(tmp_path / "adapters" / "top")]
    result = stage(adapters)
    of = {cell.variant: result.path(cell).read_bytes() for cell in result.cells if cell.prompt == "night"}
    assert len(set(of.values())) == 4
    pixels = {name: np.asarray(Image.open(io.BytesIO(content)), int) for name, content in of.items()}
    assert not np.array_equal(pixels["top"], pixels["lora-2"])  # the start's full weights count


def _foreign_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()
