"""First noise, prompt embeddings, precision, the safety checker, ControlNets that do not fit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from limner.base import encode_prompts
from limner.errors import BaseError
from limner.rendering import (
    Conditioning,
    PromptEmbeddings,
    Recipe,
    Request,
    in_precision,
    initial_latents,
    render_batch,
)
from limner.rendering.controlnet import controlnet_hash, load_controlnet

RECIPE = Recipe("ddim", 2, 5.0)


def request(prompt="a photo of sks cat", index=0):
    return Request(prompt, "", 1, index, (64, 64))


def test_first_noise_is_standard_normal_and_of_seed_and_index_alone():
    first = initial_latents(42, 0, 768, 512)
    assert first.shape == (4, 64, 96)
    assert abs(first.mean()) < 0.03
    assert abs(first.std() - 1) < 0.03
    assert torch.equal(first, initial_latents(42, 0, 768, 512))
    others = [initial_latents(42, 1, 768, 512), initial_latents(43, 0, 768, 512)]
    assert all(abs((first * other).mean()) < 0.03 for other in others)


def test_embeddings_are_the_bases_whatever_is_encoded_with_them(tiny_base):
    embeddings = PromptEmbeddings(tiny_base)
    both = embeddings.of(["a cat", "a dog", "a cat"])
    assert torch.equal(both[0], both[2])
    assert torch.equal(both[1:2], PromptEmbeddings(tiny_base).of(["a dog"]))
    tiny_base.clip_skip = 1
    skipped = PromptEmbeddings(tiny_base).of(["a cat"])
    assert torch.equal(skipped, encode_prompts(tiny_base.tokenizer, tiny_base.text_encoder, ["a cat"], 1))
    assert not torch.allclose(skipped[0], both[0], atol=1e-3)


def test_rendering_leaves_nothing_for_autograd(tiny_base):
    tiny_base.unet.requires_grad_(True)
    images, flags = render_batch(tiny_base, RECIPE, [request()], PromptEmbeddings(tiny_base))
    assert images.shape == (1, 64, 64, 3)
    assert flags == [None]
    loss = tiny_base.unet(torch.ones(1, 4, 8, 8), 1, PromptEmbeddings(tiny_base).of([""])).sample.sum()
    loss.backward()  # and the modules can be trained afterwards


def test_another_precision_is_a_copy_and_the_base_stays_as_it_was(tiny_base):
    before = {name: tensor.clone() for name, tensor in tiny_base.unet.state_dict().items()}
    copied = in_precision(tiny_base, torch.bfloat16)
    assert in_precision(tiny_base, torch.float32) is tiny_base
    assert (copied.dtype, tiny_base.dtype) == (torch.bfloat16, torch.float32)
    for part in ("unet", "vae", "text_encoder"):
        assert {p.dtype for p in getattr(copied, part).parameters()} == {torch.bfloat16}
    ours, _ = render_batch(copied, RECIPE, [request()], PromptEmbeddings(copied))
    exact, _ = render_batch(tiny_base, RECIPE, [request()], PromptEmbeddings(tiny_base))
    assert np.abs(ours.astype(int) - exact).mean() < 8
    for parameter in copied.unet.parameters():
        parameter.data.zero_()
    assert all(tiny_base.unet.state_dict()[name].equal(tensor) for name, tensor in before.items())


@pytest.fixture
def checked_base(tiny_base):
    """The tiny base with a tiny random safety checker of diffusers' class."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessorPil

    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    config = CLIPConfig(vision_config=vision, projection_dim=8)
    tiny_base.safety_checker = StableDiffusionSafetyChecker(config).eval()
    tiny_base.feature_extractor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return tiny_base


@pytest.mark.parametrize(("threshold", "flagged"), [(-2.0, True), (2.0, False)])
def test_flagged_pictures_are_black_and_recorded(checked_base, threshold, flagged):
    checked_base.safety_checker.concept_embeds_weights.data.fill_(threshold)  # a cosine is above -2, below 2
    checked_base.safety_checker.special_care_embeds_weights.data.fill_(2.0)
    requests = [request(index=0), request(index=1)]
    images, flags = render_batch(checked_base, RECIPE, requests, PromptEmbeddings(checked_base))
    assert flags == [flagged, flagged]
    assert images.any() != flagged
    unchecked, none = render_batch(checked_base, RECIPE, requests, PromptEmbeddings(checked_base), check=False)
    assert none == [None, None]
    assert unchecked.any()


def test_only_the_flagged_picture_is_black(checked_base):
    """The threshold is put between the two pictures' own scores."""
    from PIL import Image

    requests = [request(index=0), request(index=1)]
    plain, _ = render_batch(checked_base, RECIPE, requests, PromptEmbeddings(checked_base), check=False)
    checker = checked_base.safety_checker
    generator = torch.Generator().manual_seed(0)
    checker.concept_embeds.data.copy_(torch.randn(17, 8, generator=generator))
    features = checked_base.feature_extractor([Image.fromarray(p) for p in plain], return_tensors="pt").pixel_values
    with torch.no_grad():
        embeds = checker.visual_projection(checker.vision_model(features)[1])
    scores = torch.nn.functional.normalize(embeds) @ torch.nn.functional.normalize(checker.concept_embeds).T
    gap = (scores[0] - scores[1]).argmax()
    assert scores[0, gap] - scores[1, gap] > 0.004  # the checker rounds to thousandths
    checker.special_care_embeds_weights.data.fill_(2.0)
    checker.concept_embeds_weights.data.fill_(2.0)
    checker.concept_embeds_weights.data[gap] = scores[:, gap].mean()
    images, flags = render_batch(checked_base, RECIPE, requests, PromptEmbeddings(checked_base))
    assert flags == [True, False]
    assert not images[0].any()
    assert np.array_equal(images[1], plain[1])


@pytest.fixture
def controlnet_folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder / "controlnet", tmp_path / "controlnet")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("cross_attention_dim", 768, "cross_attention_dim 768 and the base 16"),
        ("block_out_channels", [8, 8, 8, 8], "block_out_channels"),
        ("conditioning_channels", 1, "conditioning_channels 1; limner provides 3"),
        ("controlnet_conditioning_channel_order", "bgr", "order bgr; limner provides rgb"),
    ],
)
def test_a_controlnet_of_another_model_is_refused(tiny_base, controlnet_folder, name, value, told):
    file = controlnet_folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(BaseError, match=told):
        load_controlnet(controlnet_folder, tiny_base)


def test_a_folder_without_a_controlnet(tiny_base, tmp_path):
    with pytest.raises(BaseError, match="holds no ControlNet"):
        controlnet_hash(tmp_path)
    with pytest.raises(BaseError, match="holds no ControlNet"):
        load_controlnet(tmp_path, tiny_base)


def test_a_damaged_controlnet_is_one_line(tiny_base, controlnet_folder):
    next(controlnet_folder.glob("*.safetensors")).write_bytes(b"damaged")
    with pytest.raises(BaseError) as error:
        load_controlnet(controlnet_folder, tiny_base)
    assert "\n" not in str(error.value)


def test_a_controlnets_hash_follows_its_content_and_not_its_place(tiny_folder, controlnet_folder):
    assert controlnet_hash(controlnet_folder) == controlnet_hash(tiny_folder / "controlnet")
    (controlnet_folder / "README.md").write_text("hello")
    assert controlnet_hash(controlnet_folder) == controlnet_hash(tiny_folder / "controlnet")
    file = controlnet_folder / "config.json"
    file.write_text(file.read_text() + "\n")
    assert controlnet_hash(controlnet_folder) != controlnet_hash(tiny_folder / "controlnet")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sampler", ["ddim", "unipc", "dpm++", "euler"])
def test_a_gpu_renders_what_the_cpu_renders(tiny_base, tiny_folder, sampler):
    images = {"noise": torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))}
    wanted = Request("a photo of sks cat", "ugly", 1, 0, (64, 64), reference="noise")
    recipe, results = Recipe(sampler, 4, 5.0), []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.float32), ("cuda", torch.float16)):
        base = in_precision(tiny_base, dtype)
        for part in (base.unet, base.text_encoder, base.vae):
            part.to(device)
        base.device = torch.device(device)
        conditioning = Conditioning(load_controlnet(tiny_folder / "controlnet", base), images)
        results.append(render_batch(base, recipe, [wanted], PromptEmbeddings(base), conditioning)[0].astype(int))
    exact, single, half = results
    assert np.abs(single - exact).max() <= 3  # convolutions in TF32
    assert np.abs(half - exact).mean() < 3
