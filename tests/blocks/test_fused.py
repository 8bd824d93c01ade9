"""Networks with fused blocks compute what diffusers' own compute, and are diffusers' own again afterwards."""

from __future__ import annotations

import warnings

import pytest
import torch

from limner.adapters import inject
from limner.adapters.low_rank import LowRankUpdate, initial_update, target_layers
from limner.blocks import fused
from limner.blocks.fused import _forms


def inputs(base):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 4, 8, 8, generator=generator).requires_grad_()
    embeds = torch.randn(2, 77, base.unet.config.cross_attention_dim, generator=generator).requires_grad_()
    return latents, torch.tensor([10, 900]), embeds


def outputs_and_gradients(base, watched):
    latents, timesteps, embeds = inputs(base)
    output = base.unet(latents, timesteps, embeds, return_dict=False)[0]
    probe = torch.linspace(-1, 1, output.numel()).view_as(output)
    return output.detach(), torch.autograd.grad((output * probe).sum(), [latents, embeds, *watched])


def same(found, wanted):
    scale = max(float(each.abs().max()) for each in wanted[1])
    assert torch.allclose(found[0], wanted[0], atol=1e-5 * float(wanted[0].abs().max()))
    for one, other in zip(found[1], wanted[1], strict=True):
        assert torch.allclose(one, other, atol=1e-5 * scale)


def test_every_block_of_the_unet_is_fused(tiny_base):
    kinds = [type(module).__name__ for module in tiny_base.unet.modules()]
    blocks = ("ResnetBlock2D", "BasicTransformerBlock", "Transformer2DModel", "Conv2d", "Upsample2D")
    wanted = sum(kinds.count(kind) for kind in blocks)
    assert len(list(_forms(tiny_base.unet))) == wanted + 2


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_unet_and_all_its_gradients_are_diffusers_own(tiny_base, gradient_checkpointing):
    unet = tiny_base.unet.requires_grad_(True)
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    watched = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    wanted = outputs_and_gradients(tiny_base, watched)
    with fused(unet, everywhere=True):
        found = outputs_and_gradients(tiny_base, watched)
    same(found, wanted)
    assert "forward" not in {name for module in unet.modules() for name in vars(module)}
    again = outputs_and_gradients(tiny_base, watched)
    assert torch.equal(again[0], wanted[0])


@pytest.mark.parametrize("targets", ["attention", "transformer", "all"])
def test_low_rank_updates_act_in_fused_blocks_too(tiny_base, targets):
    layers = dict(tiny_base.unet.named_modules())
    updates = {}
    for index, name in enumerate(target_layers(tiny_base.unet, targets)):
        fresh = initial_update(layers[name], 2, 2.0, 0, index)
        updates[name] = LowRankUpdate(fresh.down, torch.full_like(fresh.up, 0.05), 2.0)
    watched = [layer.up for layer in inject(tiny_base.unet, updates).values()]
    wanted = outputs_and_gradients(tiny_base, watched)
    with fused(tiny_base.unet, everywhere=True):
        same(outputs_and_gradients(tiny_base, watched), wanted)


def test_without_gradients_it_is_the_same(tiny_base, monkeypatch):
    from limner.blocks import forms

    monkeypatch.setattr(forms, "SLICE_BYTES", 20_000)  # the feed-forward layers' rows in several slices
    monkeypatch.setattr(forms, "has_triton", lambda tensor: True)  # in plain torch, but in place
    latents, timesteps, embeds = inputs(tiny_base)
    kept = latents.detach().clone()
    with torch.no_grad():
        wanted = tiny_base.unet(latents, timesteps, embeds).sample
        with fused(tiny_base.unet, everywhere=True):
            found = tiny_base.unet(latents, timesteps, embeds).sample
    assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max()))
    assert torch.equal(latents, kept)


def test_the_vae_too(tiny_base):
    latents = inputs(tiny_base)[0].detach()
    with torch.no_grad():
        wanted = tiny_base.vae.decode(latents).sample
        with fused(tiny_base.vae, everywhere=True):
            assert torch.allclose(tiny_base.vae.decode(latents).sample, wanted, atol=1e-5)


def test_without_triton_nothing_is_exchanged(tiny_base):
    from limner.kernels.available import has_triton

    if has_triton(next(tiny_base.unet.parameters())):
        pytest.skip("Triton runs here")
    with fused(tiny_base.unet):
        assert "forward" not in {name for module in tiny_base.unet.modules() for name in vars(module)}


def test_every_residual_block_of_the_vae_is_fused(tiny_base):
    kinds = [type(module).__name__ for module in tiny_base.vae.modules()]
    fused_forms = [form for _, form in _forms(tiny_base.vae) if form.__name__ == "residual_block"]
    assert len(fused_forms) == kinds.count("ResnetBlock2D") > 0


def test_a_block_that_keeps_its_plain_form_is_named_once_for_each_kind(tiny_base):
    resnets = [module for module in tiny_base.unet.modules() if type(module).__name__ == "ResnetBlock2D"]
    for module in resnets[:2]:
        module.output_scale_factor = 2.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with fused(tiny_base.unet, tiny_base.vae, tiny_base.text_encoder, everywhere=True):
            assert "forward" not in vars(resnets[0])
            assert "forward" in vars(resnets[2])
    assert [str(warning.message) for warning in caught] == [
        "a ResnetBlock2D differs from Stable Diffusion 1.5's, so it is computed in its plain form, slower"
    ]


def test_blocks_of_stable_diffusion_give_no_warning(tiny_base):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fused(tiny_base.unet, tiny_base.vae, tiny_base.text_encoder, everywhere=True):
            pass
