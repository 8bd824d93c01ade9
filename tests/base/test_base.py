"""Finding and loading bases; prompts to embeddings."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from limner.base import encode_prompts, find_base, load_base, tokenize
from limner.base.find import find_controlnet
from limner.errors import BaseError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing-here", "is unknown"),
        ("absent.safetensors", "there is no file"),
        ("model.ckpt", "pickle"),
    ],
)
def test_what_is_no_base_is_said_in_one_line(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseError, match=said) as error:
        find_base(name)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_an_absent_hub_id_says_how_to_get_it(monkeypatch, tmp_path):
    import huggingface_hub

    def refuse(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BaseError, match="hf download nobody/nothing"):
        find_base("nobody/nothing")


def test_a_folder_without_its_parts_is_refused(tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(BaseError, match="it has no vae, text_encoder"):
        find_base(str(tmp_path))


def test_a_damaged_weight_file_is_one_line(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "base")
    weights = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseError, match="cannot be loaded as Stable Diffusion"):
        load_base(find_base(str(tmp_path / "base")))


def test_an_inpainting_unet_is_refused(tiny_folder, tmp_path):
    from diffusers import UNet2DConditionModel

    shutil.copytree(tiny_folder, tmp_path / "base")
    config = json.loads((tiny_folder / "unet" / "config.json").read_text())
    UNet2DConditionModel.from_config({**config, "in_channels": 9}).save_pretrained(tmp_path / "base" / "unet")
    with pytest.raises(BaseError, match="inpainting; limner trains"):
        load_base(find_base(str(tmp_path / "base")))


def test_the_content_hash_is_of_content_not_of_place(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "elsewhere")
    assert find_base(str(tmp_path / "elsewhere")).content_hash == find_base(str(tiny_folder)).content_hash
    config = tmp_path / "elsewhere" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert find_base(str(tmp_path / "elsewhere")).content_hash != find_base(str(tiny_folder)).content_hash


def test_a_loaded_base_is_frozen_and_knows_its_size(tiny_base):
    assert tiny_base.native_size_px == 64
    assert tiny_base.vae_factor == 8
    assert not any(
        p.requires_grad for m in (tiny_base.unet, tiny_base.vae, tiny_base.text_encoder) for p in m.parameters()
    )
    assert not tiny_base.unet.training


def test_embeddings_equal_those_of_diffusers(tiny_base, tiny_folder):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    theirs, _ = pipeline.encode_prompt("a photo of sks cat", "cpu", 1, False)
    ours = encode_prompts(tiny_base.tokenizer, tiny_base.text_encoder, ["a photo of sks cat"])
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_clip_skip_is_a_text_encoder_without_its_last_layers(tiny_base):
    skipped = encode_prompts(tiny_base.tokenizer, tiny_base.text_encoder, ["a photo of sks cat"], clip_skip=1)
    del tiny_base.text_encoder.encoder.layers[-1]
    assert torch.allclose(skipped, encode_prompts(tiny_base.tokenizer, tiny_base.text_encoder, ["a photo of sks cat"]))


def test_prompts_too_long_say_how_many_tokens_are_cut(tiny_base):
    tokens = tokenize(tiny_base.tokenizer, ["a cat", "a cat " * 60])
    assert tokens.ids.shape == (2, 77)
    assert tokens.cut == [0, 120 + 2 - 77]


def test_the_controlnet_a_base_brings_along_is_found(tiny_folder, tmp_path):
    base = find_base(str(tiny_folder))
    assert find_controlnet("base", base) == tiny_folder / "controlnet"
    with pytest.raises(BaseError, match="is unknown"):
        find_controlnet("nothing", base)
