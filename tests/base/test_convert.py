"""Bases from one layout to the other and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.base import find_base, load_base
from limner.base.convert import convert
from limner.base.inspect import inspect
from limner.base.single_file.configuration import sd15
from limner.base.single_file.names import TEXT_MODEL, averaged_key
from limner.errors import BaseError, InputError

WEIGHTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": t for name in WEIGHTS for key, t in load_file(folder / f"{name}.safetensors").items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        t.dtype == other[key].dtype and torch.equal(t, other[key]) for key, t in one.items()
    )


def rewritten(path: Path, change) -> None:
    save_file({key: t.contiguous() for key, t in change(load_file(path)).items()}, path, metadata={"format": "pt"})


@pytest.fixture
def single_file(tiny_folder, tmp_path) -> Path:
    convert(tiny_folder, tmp_path / "single.safetensors")
    return tmp_path / "single.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("text_model", ["", TEXT_MODEL])
def test_folder_to_file_to_folder_is_bit_equal(dtype, text_model, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    rewritten(folder / "text_encoder" / "model.safetensors", lambda w: {text_model + k: t for k, t in w.items()})
    for name in WEIGHTS:
        rewritten(folder / f"{name}.safetensors", lambda w: {key: t.to(dtype) for key, t in w.items()})
    convert(folder, tmp_path / "single.safetensors")
    convert(tmp_path / "single.safetensors", tmp_path / "again")
    assert same_bits(weights_of(folder), weights_of(tmp_path / "again"))
    report = inspect(tmp_path / "single.safetensors")
    assert (report.family, report.problems) == ("sd15", [])


def test_old_names_of_the_vaes_attention_are_understood(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(key):
        return next((key.replace(new, was) for new, was in old.items() if f".{new}." in key), key)

    rewritten(folder / "vae" / "diffusion_pytorch_model.safetensors", lambda w: {renamed(k): t for k, t in w.items()})
    convert(folder, tmp_path / "again")
    assert same_bits(weights_of(tiny_folder), weights_of(tmp_path / "again"))


def test_the_same_input_gives_the_same_bytes_and_the_hash_is_of_the_data(single_file, tiny_folder, tmp_path):
    import hashlib

    convert(tiny_folder, tmp_path / "other" / "single.safetensors")
    content = single_file.read_bytes()
    assert (tmp_path / "other" / "single.safetensors").read_bytes() == content
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert metadata["modelspec.hash_sha256"] == "0x" + hashlib.sha256(content[8 + length :]).hexdigest()
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"


def test_every_key_of_the_text_encoder_has_the_prefix_that_others_want(single_file):
    text = [key for key in load_file(single_file) if key.startswith("cond_stage_model.")]
    assert text
    assert all(key.startswith("cond_stage_model.transformer.text_model.") for key in text)


def test_diffusers_loads_our_single_file_to_the_same_weights(single_file, tiny_folder):
    from diffusers import StableDiffusionPipeline

    theirs = StableDiffusionPipeline.from_single_file(str(single_file), config=str(tiny_folder), local_files_only=True)
    ours = load_base(find_base(str(tiny_folder)))
    for own, peer in ((ours.unet, theirs.unet), (ours.vae, theirs.vae), (ours.text_encoder, theirs.text_encoder)):
        assert same_bits(dict(own.state_dict()), dict(peer.state_dict()))


def test_a_single_file_is_a_base_like_its_folder(single_file, tiny_folder):
    from limner.base import encode_prompts

    from_file, from_folder = load_base(find_base(str(single_file))), load_base(find_base(str(tiny_folder)))
    for own, peer in zip(from_file.parts(), from_folder.parts(), strict=True):
        assert same_bits(dict(own.state_dict()), dict(peer.state_dict()))
    embeddings = [encode_prompts(b.tokenizer, b.text_encoder, ["a photo of sks cat"]) for b in (from_file, from_folder)]
    assert torch.equal(*embeddings)
    assert from_file.native_size_px == 64
    assert from_file.prediction_type == "epsilon"


def test_clips_tokenizer_is_brought_along():
    from limner.base.single_file.building import build_tokenizer

    tokenizer = build_tokenizer(sd15())
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(tokenizer) == 49408


def test_a_precision_is_cast_and_what_does_not_fit_is_refused(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    convert(folder, tmp_path / "half.safetensors", dtype=torch.float16)
    assert inspect(tmp_path / "half.safetensors").precision == "fp16"
    rewritten(folder / f"{WEIGHTS[0]}.safetensors", lambda w: {k: t * 1e9 for k, t in w.items()})
    with pytest.raises(InputError, match="fp16 cannot hold"):
        convert(folder, tmp_path / "huge.safetensors", dtype=torch.float16)
    assert not (tmp_path / "huge.safetensors").exists()
    assert not list(tmp_path.glob(".unfinished*"))


def with_averages(path: Path) -> Path:
    weights = load_file(path)
    unet = {key: t for key, t in weights.items() if key.startswith("model.diffusion_model.")}
    buffers = {"alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.ones(())}
    extra = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}
    rewritten_to = path.with_name("averaged.safetensors")
    averages = {averaged_key(key): t + 1 for key, t in unet.items()}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        save_file(weights | averages | buffers | extra, rewritten_to, metadata=file.metadata())
    return rewritten_to


def test_moving_averages_are_taken_when_asked_for(single_file, tiny_folder, tmp_path):
    averaged = with_averages(single_file)
    convert(averaged, tmp_path / "plain")
    convert(averaged, tmp_path / "ema", ema=True)
    plain, ema = weights_of(tmp_path / "plain"), weights_of(tmp_path / "ema")
    assert same_bits(plain, weights_of(tiny_folder))
    assert all(torch.equal(ema[k], t + 1 if k.startswith("unet") else t) for k, t in plain.items())
    with pytest.raises(BaseError, match="no moving average"):
        convert(single_file, tmp_path / "none", ema=True)


@pytest.mark.parametrize("form", ["folder", "prefixed", "bare", "diffusers"])
def test_a_vae_apart_takes_the_place_of_what_is_missing(form, single_file, tiny_folder, tmp_path):
    from safetensors import safe_open

    weights = load_file(single_file)
    vae = {key: t for key, t in weights.items() if key.startswith("first_stage_model.")}
    with safe_open(single_file, "pt") as file:
        pruned = {key: t for key, t in weights.items() if key not in vae}
        save_file(pruned, tmp_path / "pruned.safetensors", metadata=file.metadata())
    with pytest.raises(BaseError, match="no vae in it; give one with --vae"):
        convert(tmp_path / "pruned.safetensors", tmp_path / "none")
    apart = {"folder": tiny_folder / "vae", "diffusers": tiny_folder / f"{WEIGHTS[1]}.safetensors"}.get(form)
    if apart is None:
        apart = tmp_path / "vae.safetensors"
        save_file(
            {key if form == "prefixed" else key.removeprefix("first_stage_model."): t for key, t in vae.items()}, apart
        )
    convert(tmp_path / "pruned.safetensors", tmp_path / "whole", vae=apart)
    assert same_bits(weights_of(tmp_path / "whole"), weights_of(tiny_folder))


@pytest.mark.parametrize("fault", ["missing", "strange", "twice"])
def test_a_base_with_weights_missing_or_too_many_is_refused(fault, single_file, tmp_path):
    weights = load_file(single_file)
    if fault == "missing":
        del weights["model.diffusion_model.out.2.weight"]
    name = {"strange": "model.diffusion_model.x.weight", "twice": "cond_stage_model.transformer.final_layer_norm.bias"}
    if fault in name:
        weights[name[fault]] = torch.zeros(1)
    save_file(weights, tmp_path / "faulty.safetensors")
    with pytest.raises(BaseError, match={"missing": "are missing", "strange": "no place", "twice": "twice"}[fault]):
        convert(tmp_path / "faulty.safetensors", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_other_shapes_without_their_configuration_are_refused(single_file, tmp_path):
    save_file(load_file(single_file), tmp_path / "bare.safetensors")
    with pytest.raises(BaseError, match="channels are 8, but its configuration says 320"):
        convert(tmp_path / "bare.safetensors", tmp_path / "none")


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_is_read_only_when_allowed_and_only_if_it_holds_tensors(nested, single_file, tiny_folder, tmp_path):
    from diffusers import UNet2DConditionModel  # its folder in the old form: one .bin a part

    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    weights = load_file(folder / f"{WEIGHTS[0]}.safetensors")
    (folder / f"{WEIGHTS[0]}.safetensors").unlink()
    torch.save({"state_dict": weights} if nested else weights, folder / f"{WEIGHTS[0]}.bin")
    with pytest.raises(BaseError, match="--allow-pickle"):
        convert(folder, tmp_path / "again")
    convert(folder, tmp_path / "again", allow_pickle=True)
    assert same_bits(weights_of(tmp_path / "again"), weights_of(tiny_folder))
    assert UNet2DConditionModel.from_pretrained(tmp_path / "again" / "unet")


def test_a_pickled_lora_becomes_a_file_of_the_same_tensors(tmp_path):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{name}.lora_down.weight": torch.randn(4, 768), f"{name}.lora_up.weight": torch.randn(1280, 4)}
    torch.save(tensors, tmp_path / "lora.pt")
    convert(tmp_path / "lora.pt", tmp_path / "lora.safetensors", allow_pickle=True)
    assert same_bits(load_file(tmp_path / "lora.safetensors"), tensors)
    assert inspect(tmp_path / "lora.safetensors").family == "lora-sd15"


class Marker:
    """A pickle that would make a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_never_run(legacy, tmp_path):
    path, marker = tmp_path / "evil.ckpt", tmp_path / "was-run"
    content = {"x": torch.zeros(3), "evil": Marker(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BaseError):
        convert(path, tmp_path / "out", allow_pickle=True)
    inspect(path)
    assert not marker.exists()


def test_tensors_that_repeat_their_storage_do_not_fill_the_disk(tmp_path):
    path = tmp_path / "bomb.ckpt"
    torch.save({"x": torch.zeros(1).expand(10**10)}, path)
    with pytest.raises(BaseError, match="repeat their storage"):
        convert(path, tmp_path / "out.safetensors", allow_pickle=True)


def test_the_command(tiny_folder, tmp_path, limner):
    assert limner("convert", tiny_folder, tmp_path / "s.safetensors", "--precision", "fp16").code == 0
    assert limner("convert", tmp_path / "s.safetensors", tmp_path / "f").code == 0
    assert inspect(tmp_path / "f").precision == "fp16"
    outcome = limner("convert", tiny_folder, tmp_path / "s2.safetensors", "--precision", "int4")
    assert outcome.code == 2
    assert "fp32, bf16, fp16" in outcome.err


def test_a_folder_made_of_a_bare_file_of_sd15_says_all_that_diffusers_asks_for(tmp_path):
    """diffusers' own converter reads the configuration files as they are, without the classes' defaults."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    sd15().write(tmp_path)
    unet, vae = (json.loads((tmp_path / part / "config.json").read_text()) for part in ("unet", "vae"))
    asked = {"layers_per_block", "down_block_types", "up_block_types", "block_out_channels", "norm_num_groups"}
    assert asked <= unet.keys() & vae.keys()
    for config, kind in ((unet, UNet2DConditionModel), (vae, AutoencoderKL)):
        with torch.device("meta"):
            made = dict(kind.from_config(config).config)
        assert all(made[name] == value for name, value in config.items() if name != "_class_name")
