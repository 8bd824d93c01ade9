"""Our latents equal those of diffusers' own pipelines: same weights, sampler, prompt and first noise, fp32."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

from limner.adapters import Adapter, LowRankUpdates, attached, save_adapter
from limner.diffusion.latents import bytes_from_pixels, decoded_slices
from limner.diffusion.samplers import CLASSES
from limner.rendering import Conditioning, PromptEmbeddings, Recipe, Request, initial_latents, render_latents
from limner.rendering.canny import conditioning_tensor
from limner.rendering.controlnet import load_controlnet
from tests.adapters.test_adapter import random_low_rank

STEPS = 5
TOLERANCE = 1e-5  # of the largest latent, for each step taken
PROMPT, NEGATIVE = "a photo of sks cat in the snow", "blurry, ugly"


def ours(base, recipe, requests, conditioning=None):
    """Latents after each step."""
    steps = []
    embeddings = PromptEmbeddings(base)
    render_latents(
        base, recipe, requests, embeddings, conditioning, callback=lambda step, latents: steps.append(latents)
    )
    return steps


def theirs(pipeline, sampler, guidance_scale=7.0, **settings):
    """Latents after each step, from the same first noise."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = getattr(diffusers, CLASSES[sampler]).from_config(pipeline.scheduler.config)
    steps = []

    def keep(pipe, step, timestep, tensors):
        steps.append(tensors["latents"].clone())
        return {}

    pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        callback_on_step_end=keep,
        output_type="latent",
        **settings,
    )
    return steps


def assert_close(own, peer):
    assert len(own) == len(peer) == STEPS
    for step, (a, b) in enumerate(zip(own, peer, strict=True), 1):
        assert (a - b).abs().max() <= TOLERANCE * step * b.abs().max(), f"step {step}"


def request(seed=3, size=(64, 64), **more):
    return Request(PROMPT, NEGATIVE, seed, 0, size, **more)


@pytest.mark.parametrize("sampler", CLASSES)
@pytest.mark.parametrize("guidance_scale", [7.0, 1.0])
def test_text_to_image(tiny_base, tiny_folder, sampler, guidance_scale):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    own = ours(tiny_base, Recipe(sampler, STEPS, guidance_scale), [request(size=(96, 64))])
    first = initial_latents(3, 0, 96, 64)[None]
    peer = theirs(pipeline, sampler, guidance_scale, latents=first, height=64, width=96)
    assert_close(own, peer)


def test_pictures_equal_the_pipelines(tiny_base, tiny_folder):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    latents = ours(tiny_base, Recipe("ddim", STEPS, 7.0), [request()])[-1]
    own = bytes_from_pixels(torch.cat([*decoded_slices(tiny_base.vae, latents)])).numpy()
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents.clone() / pipeline.vae.config.scaling_factor).sample
    peer = np.asarray(pipeline.image_processor.postprocess(decoded, output_type="pil")[0])
    assert np.array_equal(own[0], peer)


def test_with_a_lora(tiny_base, tiny_folder, tmp_path):
    adapter = Adapter.of("lora", LowRankUpdates(random_low_rank(tiny_base, rank=2, alpha=5.0)))
    save_adapter(tmp_path, adapter)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder)
    first = initial_latents(3, 0, 64, 64)[None]
    bare = theirs(pipeline, "ddim", latents=first)
    pipeline.load_lora_weights(tmp_path)
    peer = theirs(pipeline, "ddim", latents=first)
    assert (peer[-1] - bare[-1]).abs().max() > 0.01
    with attached(tiny_base.modules(), adapter):
        own = ours(tiny_base, Recipe("ddim", STEPS, 7.0), [request()])
    assert_close(own, peer)


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_with_a_controlnet(tiny_base, tiny_folder, scale):
    from PIL import Image

    edges = np.random.default_rng(0).choice([0, 255], (64, 96, 1)).astype(np.uint8).repeat(3, 2)
    controlnet = diffusers.ControlNetModel.from_pretrained(tiny_folder / "controlnet")
    pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(tiny_folder, controlnet=controlnet)
    first = initial_latents(3, 0, 96, 64)[None]
    image = Image.fromarray(edges)
    peer = theirs(
        pipeline, "unipc", latents=first, image=image, controlnet_conditioning_scale=scale, height=64, width=96
    )
    loaded = load_controlnet(tiny_folder / "controlnet", tiny_base)
    conditioning = Conditioning(loaded, {"drawing": conditioning_tensor(edges)})
    wanted = request(size=(96, 64), reference="drawing", conditioning_scale=scale)
    recipe = Recipe("unipc", STEPS, 7.0)
    own = ours(tiny_base, recipe, [wanted], conditioning)
    assert_close(own, peer)
    assert (own[-1] - ours(tiny_base, recipe, [wanted])[-1]).abs().max() > 0.01  # the ControlNet acts
    again = ours(tiny_base, recipe, [wanted], conditioning)  # and is left as it was
    assert torch.equal(own[-1], again[-1])


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_cell_is_the_same_alone_and_in_a_batch(tiny_base, tiny_folder, conditioned):
    rng = np.random.default_rng(1)
    names = ["one", "two", "three", "four"]
    conditioning = None
    if conditioned:
        images = {name: conditioning_tensor(rng.integers(0, 255, (64, 64, 3), np.uint8)) for name in names}
        conditioning = Conditioning(load_controlnet(tiny_folder / "controlnet", tiny_base), images)
    requests = [
        Request(f"a photo of sks {word}", NEGATIVE, seed, 0, (64, 64), reference=name)
        for seed, (word, name) in enumerate(zip(["cat", "dog", "woman", "man"], names, strict=True))
    ]
    recipe = Recipe("ddim", STEPS, 7.0)
    together = ours(tiny_base, recipe, requests, conditioning)
    for position, alone in enumerate(requests):
        assert_close(
            [step[position : position + 1] for step in together], ours(tiny_base, recipe, [alone], conditioning)
        )
