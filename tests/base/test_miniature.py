"""The miniature that ships: whole, small, and what SD 1.5 is to every program that loads it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.base import Base, encode_prompts, find_base, load_base
from limner.base.find import MINIATURE, MINIATURE_FOLDER, find_controlnet
from limner.base.prompts import tokenize
from limner.config import Render, resolve_study
from limner.demo import CHELSEA
from limner.embeddings import SubjectHeads, find_embedder, read_image
from limner.rendering import Recipe, render_validation

MIB = 2**20
CONFIGS = Path(__file__).parents[2] / "configs"
IDENTIFIERS = ["sks", "ohwx", "zwx"]


@pytest.fixture(scope="module")
def miniature() -> Base:
    return load_base(find_base(MINIATURE))


def prompts_of(tree) -> list[str]:
    """Every prompt in a study file, and the words that its subject is filled in with."""
    if isinstance(tree, dict):
        own = [v for k, v in tree.items() if isinstance(v, str) and (k.endswith("prompt") or k == "class_noun")]
        return own + [prompt for value in tree.values() for prompt in prompts_of(value)]
    return [prompt for value in tree for prompt in prompts_of(value)] if isinstance(tree, list) else []


def words_of(text: str) -> set[str]:
    """The words of a prompt, placeholders left out, as CLIP's tokenizer splits them: letters apart from digits."""
    return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text).lower()))


def test_no_file_is_too_large_and_the_family_is_small():
    sizes = {path: path.stat().st_size for path in MINIATURE_FOLDER.rglob("*") if path.is_file()}
    assert all(size <= 15 * MIB for size in sizes.values()), max(sizes, key=lambda path: sizes[path])
    assert sum(sizes.values()) <= 48 * MIB
    parts = {path.relative_to(MINIATURE_FOLDER).parts[0] for path in sizes}
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "controlnet", "clip"} <= parts
    assert {"model_index.json", "limner.json", "README.md"} <= parts


def test_all_weights_are_safetensors_in_fp16_and_every_shard_is_there():
    from safetensors import safe_open

    files = list(MINIATURE_FOLDER.rglob("*.safetensors"))
    assert len(files) >= 5
    for file in files:
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, file
    unet = MINIATURE_FOLDER / "unet"
    index = json.loads((unet / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert {file.name for file in unet.glob("*.safetensors")} == set(index["weight_map"].values())
    assert not list(MINIATURE_FOLDER.rglob("*.bin")), "pickles can run code"


def test_it_has_the_topology_of_sd15(miniature):
    unet, vae = miniature.unet.config, miniature.vae.config
    kinds = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert (list(unet.down_block_types), unet.layers_per_block, unet.in_channels) == (kinds, 2, 4)
    assert (len(vae.block_out_channels), vae.latent_channels) == (4, 4)
    assert miniature.prediction_type == "epsilon"
    schedule = miniature.noise_schedule
    assert (schedule["beta_schedule"], schedule["num_train_timesteps"]) == ("scaled_linear", 1000)
    assert (miniature.tokenizer.model_max_length, miniature.native_size_px) == (77, 256)


def test_the_identifiers_and_every_word_of_both_courseworks_are_single_tokens(miniature):
    studies = [tomllib.loads((CONFIGS / f"coursework-{name}.toml").read_text()) for name in ("a", "b")]
    prompts = prompts_of(studies)
    assert len(prompts) > 10
    words = sorted({*IDENTIFIERS, *(word for prompt in prompts for word in words_of(prompt))})
    assert len(words) > 80
    tokens = miniature.tokenizer(words, add_special_tokens=False).input_ids
    assert [word for word, ids in zip(words, tokens, strict=True) if len(ids) != 1] == []
    assert len({ids[0] for ids in tokens}) == len(words)


def test_pooled_embeddings_tell_prompts_apart(miniature):
    """With a wrong end token CLIP pools at the first place of every prompt, and all come out equal."""
    tokenizer, config = miniature.tokenizer, miniature.text_encoder.config
    for role in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(config, role) == getattr(tokenizer, role), role
    prompts = ["a photo of sks cat face", "a pencil sketch of dog face", "a photo of zwx cat face"]
    ids = tokenize(tokenizer, prompts).ids
    with torch.no_grad():
        output = miniature.text_encoder(ids)
    ends = (ids == tokenizer.eos_token_id).int().argmax(1)
    assert torch.equal(output.pooler_output, output.last_hidden_state[torch.arange(3), ends])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(output.pooler_output[one], output.pooler_output[other], atol=1e-2)


def test_it_renders_pictures_that_are_not_noise(miniature):
    recommended = Render.model_validate(miniature.location.defaults["render"])
    recipe = Recipe(recommended.sampler, 2, recommended.guidance_scale)
    prompts = ["a photo of cat face", "a pencil sketch of dog face"]
    images = render_validation(miniature, prompts, 1, recipe=recipe, size=(256, 256))
    assert images.shape == (2, 256, 256, 3)
    for image in images.astype(np.int16):
        neighbours = np.abs(np.diff(image, axis=1)).mean()
        assert image.std() > 10, "blank"
        assert neighbours < image.std() / 2, "noise: neighbouring pixels differ as much as distant ones"
    colour = np.ptp(images.astype(np.int16), axis=3).mean(axis=(1, 2))
    assert colour[0] > colour[1], "a sketch is greyer than a photo"


def test_its_own_recommendations_are_a_valid_study(miniature):
    subject = {"photos": "photos", "class_noun": "cat face"}
    raw = {"subject": subject, "variants": [{"method": "full"}, {"method": "lora"}], "control": {}}
    study = resolve_study(raw, miniature.location.defaults)
    assert study.prepare.size_px == miniature.native_size_px
    assert find_controlnet(study.control.model, miniature.location) == MINIATURE_FOLDER / "controlnet"


def test_diffusers_and_transformers_load_it_as_their_own(miniature):
    from diffusers import ControlNetModel, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(MINIATURE_FOLDER, torch_dtype=torch.float32)
    theirs, _ = pipeline.encode_prompt("a photo of sks cat face", "cpu", 1, False)
    ours = encode_prompts(miniature.tokenizer, miniature.text_encoder, ["a photo of sks cat face"])
    assert torch.allclose(ours, theirs, atol=1e-5)
    own = miniature.unet.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in pipeline.unet.state_dict().items())
    controlnet = ControlNetModel.from_pretrained(MINIATURE_FOLDER / "controlnet")
    assert controlnet.config.cross_attention_dim == miniature.unet.config.cross_attention_dim
    assert controlnet.controlnet_down_blocks[0].weight.abs().max() > 0, "trained: its outputs start at zero"


def test_its_own_pair_sees_a_cat_in_a_photo_of_a_cat(miniature):
    pair = find_embedder("base", miniature.location).load_pair("cpu")
    photo = CHELSEA / "chelsea.png"
    picture = SubjectHeads("cat", [photo]).crop.parts([read_image(photo)], pair.size_px)[0].image
    texts = pair.embed_texts(["a photo of cat face", "a photo of dog face", "a pencil sketch of cat face"])
    cat, dog, sketch = (pair.embed([picture]) @ texts.T)[0].tolist()
    assert cat > max(dog, sketch)
