"""Captured steps: what a graph is given, when it is captured anew, what happens when it cannot be.

On a CPU a function that runs the step again on the same buffers stands in for a CUDA graph; the test marked gpu uses
graphs.
"""

from __future__ import annotations

import pytest
import torch

from limner.adapters import WholeWeights, attached, eject, inject
from limner.rendering import Conditioning, PlainDenoiser, PromptEmbeddings, Recipe, Request, render_latents
from limner.rendering.captured import CapturedDenoiser, CudaCapture
from limner.rendering.controlnet import load_controlnet
from limner.rendering.denoiser import BatchInputs
from tests.adapters.test_adapter import random_low_rank

SAMPLERS = ["ddim", "unipc", "dpm++", "euler"]
NAMES = ["one", "two"]


class Rerun:
    """Runs a step again into a fixed output, as a replayed graph does; counts what was captured."""

    def __init__(self):
        self.captured = self.replayed = 0

    def __call__(self, run, rehearse):
        self.captured += 1
        rehearse()
        output = run()

        def again():
            self.replayed += 1
            output.copy_(run())

        return again, output


def requests(count=2, prompt="a photo of sks cat"):
    return [Request(prompt, "ugly", seed, 0, (64, 64), NAMES[seed % 2]) for seed in range(count)]


def never(message):
    raise AssertionError(message)


@pytest.fixture
def conditioning(tiny_base, tiny_folder):
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(3, 64, 64, generator=generator) for name in NAMES}
    return Conditioning(load_controlnet(tiny_folder / "controlnet", tiny_base), images)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("conditioned", [False, True])
def test_captured_is_what_is_computed_step_by_step(tiny_base, conditioning, sampler, conditioned):
    given = conditioning if conditioned else None
    recipe, embeddings, rerun = Recipe(sampler, 4, 5.0), PromptEmbeddings(tiny_base), Rerun()
    denoiser = CapturedDenoiser(
        PlainDenoiser(tiny_base.unet, conditioning.controlnet if conditioned else None), never, rerun
    )
    for prompt in ("a photo of sks cat", "a dog in the snow"):  # the second batch meets the first one's buffers
        captured = render_latents(tiny_base, recipe, requests(prompt=prompt), embeddings, given, denoiser=denoiser)
        plain = render_latents(tiny_base, recipe, requests(prompt=prompt), embeddings, given)
        assert torch.equal(captured, plain)
    assert rerun.captured == 1
    assert rerun.replayed == 2 * 4 + 1  # every step, and once to see that it agrees


def test_each_shape_is_captured_once(tiny_base):
    recipe, embeddings, rerun = Recipe("ddim", 2, 5.0), PromptEmbeddings(tiny_base), Rerun()
    denoiser = CapturedDenoiser(PlainDenoiser(tiny_base.unet), never, rerun)
    for count in (2, 1, 2, 1):
        render_latents(tiny_base, recipe, requests(count), embeddings, denoiser=denoiser)
    assert rerun.captured == 2


def test_weights_changed_in_place_are_followed_and_moved_ones_captured_anew(tiny_base):
    recipe, embeddings, rerun = Recipe("ddim", 2, 5.0), PromptEmbeddings(tiny_base), Rerun()
    denoiser = CapturedDenoiser(PlainDenoiser(tiny_base.unet), never, rerun)

    def both():
        captured = render_latents(tiny_base, recipe, requests(), embeddings, denoiser=denoiser)
        assert torch.equal(captured, render_latents(tiny_base, recipe, requests(), embeddings))
        return rerun.captured

    assert both() == 1
    full = {name: tensor * 1.05 for name, tensor in tiny_base.unet.state_dict().items()}
    from limner.adapters import Adapter

    with attached(tiny_base.modules(), Adapter.of("full", WholeWeights({"unet": full}))):
        assert both() == 1
    updates = random_low_rank(tiny_base, modules=("unet",))["unet"]
    inject(tiny_base.unet, updates)
    assert both() == 2
    eject(tiny_base.unet)
    inject(tiny_base.unet, updates, strength=0.5)  # a scale is a constant of the graph
    assert both() == 3


def test_what_cannot_be_captured_is_computed_with_one_notice(tiny_base):
    def refuse(run, rehearse):
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    notices = []
    recipe, embeddings = Recipe("ddim", 2, 5.0), PromptEmbeddings(tiny_base)
    denoiser = CapturedDenoiser(PlainDenoiser(tiny_base.unet), notices.append, refuse)
    for count in (2, 1, 2):
        captured = render_latents(tiny_base, recipe, requests(count), embeddings, denoiser=denoiser)
        assert torch.equal(captured, render_latents(tiny_base, recipe, requests(count), embeddings))
    assert notices == [
        "rendering continues without capture, slower: a step could not be captured "
        "(operation not permitted when stream is capturing)"
    ]


class Baked(PlainDenoiser):
    """Computes a replay with one input of the first call, as when a module reads a value back to the host."""

    def __init__(self, unet, frozen):
        super().__init__(unet)
        self.frozen, self.first, self.replaying = frozen, None, False

    def predict(self, scaled, timestep, inputs):
        arguments = {"scaled": scaled, "timestep": timestep, "inputs": inputs}
        if self.first is None:
            self.first = {
                "scaled": scaled.clone(),
                "timestep": timestep.clone(),
                "inputs": BatchInputs(inputs.embeds.clone()),
            }
        if self.replaying:
            arguments[self.frozen] = self.first[self.frozen]
        return super().predict(**arguments)

    def capture(self, run, rehearse):
        rehearse()
        self.first = None
        output = run()

        def again():
            self.replaying = True
            output.copy_(run())
            self.replaying = False

        return again, output


@pytest.mark.parametrize("frozen", ["scaled", "timestep", "inputs"])
def test_a_replay_that_does_not_follow_its_inputs_is_found_out(tiny_base, frozen):
    notices, plain = [], Baked(tiny_base.unet, frozen)
    recipe, embeddings = Recipe("ddim", 3, 5.0), PromptEmbeddings(tiny_base)
    denoiser = CapturedDenoiser(plain, notices.append, plain.capture)
    rendered = render_latents(tiny_base, recipe, requests(), embeddings, denoiser=denoiser)
    assert torch.equal(rendered, render_latents(tiny_base, recipe, requests(), embeddings))
    assert len(notices) == 1
    assert "gives another result than the step" in notices[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_graphs_give_what_the_step_gives(tiny_base, tiny_folder, sampler):
    for part in (tiny_base.unet, tiny_base.text_encoder, tiny_base.vae):
        part.to("cuda")
    embeddings, recipe = PromptEmbeddings(tiny_base), Recipe(sampler, 4, 5.0)
    denoiser = CapturedDenoiser(PlainDenoiser(tiny_base.unet), never, CudaCapture())
    for count in (2, 1, 2):
        captured = render_latents(tiny_base, recipe, requests(count), embeddings, denoiser=denoiser)
        plain = render_latents(tiny_base, recipe, requests(count), embeddings)
        assert (captured - plain).abs().max() <= 1e-4 * plain.abs().max()
