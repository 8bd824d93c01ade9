"""The noise schedule against its definition and against diffusers' own numbers."""

from __future__ import annotations

import pytest
import torch

from limner.diffusion.noise_schedule import add_noise, alphas_cumprod, snr, target, velocity
from limner.errors import BaseError

SD15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


@pytest.mark.parametrize("schedule", ["scaled_linear", "linear"])
def test_alphas_are_the_product_of_one_minus_beta(schedule):
    alphas = alphas_cumprod(SD15 | {"beta_schedule": schedule}).tolist()
    product = 1.0
    for t in range(1000):
        share = t / 999
        if schedule == "linear":
            beta = 0.00085 + share * (0.012 - 0.00085)
        else:
            beta = (0.00085**0.5 + share * (0.012**0.5 - 0.00085**0.5)) ** 2
        product *= 1 - beta
        assert alphas[t] == pytest.approx(product, rel=2e-5)
    assert len(alphas) == 1000


@pytest.mark.parametrize("zero_snr", [False, True])
def test_alphas_are_those_diffusers_trains_with(zero_snr):
    from diffusers import DDPMScheduler

    config = SD15 | {"rescale_betas_zero_snr": zero_snr}
    theirs = DDPMScheduler(**config).alphas_cumprod
    ours = alphas_cumprod(config)
    if zero_snr:
        assert ours[-1] == 0
        assert torch.allclose(ours, theirs, atol=1e-6)
    else:
        assert torch.equal(ours, theirs)


def test_an_unknown_schedule_is_refused_by_name():
    with pytest.raises(BaseError, match="squaredcos_cap_v2"):
        alphas_cumprod(SD15 | {"beta_schedule": "squaredcos_cap_v2"})


def test_noise_and_velocity_are_a_rotation_of_latents_and_noise():
    alphas = alphas_cumprod(SD15).double()
    timesteps = torch.tensor([0, 500, 999])
    x, noise = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noisy, v = add_noise(x, noise, timesteps, alphas), velocity(x, noise, timesteps, alphas)
    signal = alphas[timesteps].sqrt()[:, None, None, None]
    spread = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    assert torch.allclose(signal * noisy - spread * v, x)
    assert torch.allclose(spread * noisy + signal * v, noise)
    assert torch.equal(target("epsilon", x, noise, timesteps, alphas), noise)
    assert torch.equal(target("v_prediction", x, noise, timesteps, alphas), v)
    with pytest.raises(BaseError, match="sample"):
        target("sample", x, noise, timesteps, alphas)


def test_snr_is_signal_power_over_noise_power():
    alphas = alphas_cumprod(SD15)
    ratio = snr(torch.tensor([0, 999]), alphas)
    assert ratio[0].item() == pytest.approx((1 - 0.00085) / 0.00085, rel=1e-3)
    assert ratio[1] < 0.01
