"""A quick look at an adapter: `limner render ADAPTER --prompt …`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from limner.errors import AdapterError, BaseError, PromptError
from limner.exporting import export
from limner.quick_look import quick_look
from limner.study import run_study
from tests.cli.calling import Shell
from tests.studies import write_study


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look")
    changes = {
        "[render]": '[render]\nbatch_size = 1\nnegative_prompt = "ugly"',
        "[prepare]": "clip_skip = 1\n\n[prepare]",
    }
    return run_study(write_study(folder, tiny_folder, changes=changes), folder / "run", until="render")


def pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("label", ["full", "lora-2", "on top"])
def test_it_is_the_picture_of_the_studys_grid(run, tmp_path, monkeypatch, capsys, label):
    out = tmp_path / "look.png"
    arguments = [run / "adapters" / label, "--prompt", "{subject} in the garden", "--seed", 3, "--device", "cpu"]
    ended = Shell(monkeypatch, capsys)("render", *arguments, "--out", out)
    assert (ended.code, ended.out) == (0, f"picture: {out}\n")
    assert np.array_equal(pixels(out), pixels(run / "renders" / label / "garden" / "3.png"))
    with Image.open(out) as picture:
        assert json.loads(picture.info["limner"])["prompt"] == "sks cat face in the garden"
        assert "Negative prompt: ugly" in picture.info["parameters"]
        assert "Clip skip: 2" in picture.info["parameters"]


def test_without_strength_a_lora_is_the_base(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weak = quick_look(run / "adapters" / "lora-2", "a photo of cat face", 3, strength=0.0, out=tmp_path / "weak.png")
    base = run / "renders" / "base" / "photo" / "3.png"
    assert np.array_equal(pixels(weak), pixels(base))
    strong = quick_look(run / "adapters" / "lora-2", "a photo of cat face", 3)
    assert strong == Path("lora-2-3.png")
    assert not np.array_equal(pixels(strong), pixels(base))


def test_out_may_be_a_folder(run, tmp_path):
    assert quick_look(run / "adapters" / "lora-1", "a cat", 5, out=tmp_path) == tmp_path / "lora-1-5.png"
    assert (tmp_path / "lora-1-5.png").is_file()


def test_outside_a_run_the_base_must_be_named(run, tiny_folder, tmp_path):
    adapter = Path(shutil.copytree(run / "adapters" / "lora-2", tmp_path / "lora-2"))
    with pytest.raises(BaseError, match="name it with --base"):
        quick_look(adapter, "a cat", 0)
    with pytest.raises(PromptError, match="no run folder that names the subject"):
        quick_look(adapter, "a {subject}", 0, base=str(tiny_folder))
    picture = quick_look(adapter, "a cat", 0, base=str(tiny_folder), out=tmp_path / "look.png")
    assert pixels(picture).shape == (64, 64, 3)  # the base's recommendation


def test_a_lora_whose_start_is_gone_says_so(run, tiny_folder, tmp_path):
    adapter = Path(shutil.copytree(run / "adapters" / "on top", tmp_path / "on top"))
    with pytest.raises(AdapterError, match='starts from "full"'):
        quick_look(adapter, "a cat", 0, base=str(tiny_folder))


def test_an_unknown_placeholder_names_the_known_ones(run):
    with pytest.raises(PromptError, match=r"thing.*\{subject\}, \{identifier\} and \{class_noun\}"):
        quick_look(run / "adapters" / "lora-2", "a {thing}", 0)


def test_what_can_only_be_merged_is_merged_for_the_look(run, tiny_folder, tmp_path):
    width = load_file(tiny_folder / "unet" / "diffusion_pytorch_model.safetensors")["mid_block.resnets.0.conv1.weight"]
    key = "lora_unet_mid_block_resnets_0_conv1.diff"
    save_file(
        {key: torch.randn(width.shape, generator=torch.Generator().manual_seed(0)), f"{key}_b": torch.ones(len(width))},
        tmp_path / "theirs.safetensors",
    )
    export(tmp_path / "theirs.safetensors", tmp_path / "model", "merged", base=str(tiny_folder), strength=0.5)
    look = quick_look(
        tmp_path / "theirs.safetensors", "a cat", 3, base=str(tiny_folder), strength=0.5, out=tmp_path / "look.png"
    )
    export(run / "adapters" / "lora-1", tmp_path / "plain.safetensors", "kohya")
    merged, base = (
        quick_look(tmp_path / "plain.safetensors", "a cat", 3, strength=0, base=str(model), out=tmp_path / f"{i}.png")
        for i, model in enumerate((tmp_path / "model", tiny_folder))
    )
    assert np.array_equal(pixels(look), pixels(merged))
    assert not np.array_equal(pixels(look), pixels(base))
