"""Samplers by name."""

from __future__ import annotations

import pytest
import torch

from limner.diffusion.samplers import CLASSES, make_sampler
from limner.errors import InputError

OLD_SCHEDULE = {  # as SD 1.5's own file has it, without the keys that came later
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "skip_prk_steps": True,
}


def walk(name, steps=6):
    """Latents after `steps` steps with a denoiser that is a plain function."""
    sampler = make_sampler(name, OLD_SCHEDULE)
    sampler.set_timesteps(steps)
    latents = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4) * sampler.init_noise_sigma
    for timestep in sampler.timesteps:
        predicted = sampler.scale_model_input(latents, timestep).sin()
        latents = sampler.step(predicted, timestep, latents).prev_sample
    return latents


@pytest.mark.parametrize("name", CLASSES)
def test_a_sampler_is_deterministic_and_remembers_nothing_of_another_batch(name):
    torch.manual_seed(1)
    first = walk(name)
    torch.manual_seed(2)
    assert torch.equal(walk(name), first)


def test_samplers_differ():
    ends = [walk(name) for name in CLASSES]
    assert all(not torch.allclose(a, b) for i, a in enumerate(ends) for b in ends[:i])


@pytest.mark.parametrize("name", CLASSES)
def test_a_gaussian_is_sampled_as_its_closed_form_says(name):
    """Where data are N(mean, deviation²), the best denoiser and the flow from noise to data are known exactly."""
    mean, deviation = 0.7, 0.3
    sampler = make_sampler(name, OLD_SCHEDULE)
    shares = make_sampler("ddim", OLD_SCHEDULE).alphas_cumprod
    sampler.set_timesteps(200)
    first = torch.linspace(-2, 2, 16).reshape(1, 1, 4, 4)
    latents = first * sampler.init_noise_sigma
    for timestep in sampler.timesteps:
        share = shares[round(float(timestep))]
        scaled = sampler.scale_model_input(latents, timestep)
        spread = share * deviation**2 + 1 - share
        predicted = (1 - share).sqrt() * (scaled - share.sqrt() * mean) / spread
        latents = sampler.step(predicted, timestep, latents).prev_sample
    last = shares[round(float(sampler.timesteps[0]))]
    standard = (first - last.sqrt() * mean) / (last * deviation**2 + 1 - last).sqrt()
    assert torch.allclose(latents, mean + deviation * standard, atol=0.02)


@pytest.mark.parametrize("listed", [[], ["clip_sample", "steps_offset"]])
def test_latents_are_never_clipped_and_timesteps_start_at_one(listed):
    sampler = make_sampler(
        "ddim", {**OLD_SCHEDULE, "clip_sample": True, "steps_offset": 0, "_use_default_values": listed}
    )
    assert sampler.config.clip_sample is False
    sampler.set_timesteps(10)
    assert sampler.timesteps[-1] == 1


def test_prediction_type_comes_from_the_base():
    for name in CLASSES:
        sampler = make_sampler(name, {**OLD_SCHEDULE, "prediction_type": "v_prediction"})
        assert sampler.config.prediction_type == "v_prediction"


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match=r"heun.*ddim, unipc, dpm\+\+, euler"):
        make_sampler("heun", OLD_SCHEDULE)
