"""Pictures whose products are in bf16, as processors with AMX make them, beside those in fp32 alone."""

from __future__ import annotations

import pytest
import torch

from limner.base import devices
from limner.rendering import (
    Conditioning,
    Recipe,
    Request,
    columns_of,
    fast_denoiser,
    render_latents,
)
from limner.rendering.columns import AttachedColumns
from limner.rendering.controlnet import load_controlnet
from limner.rendering.execution import RenderJob
from limner.rendering.grid import Grid
from tests.rendering.folders import lora_folder

SIZE = (64, 128)


def latents_of(base, column, conditioning, *, half_products):
    """Two pictures' latents (2, 4, 16, 8)."""
    requests = [Request("a photo of sks cat", "ugly", seed, 0, SIZE, "drawing") for seed in range(2)]
    controlnet = conditioning.controlnet if conditioning else None
    with AttachedColumns(base, {column.label: ["a photo of sks cat", "ugly"]}) as attach:
        embeddings = attach([column])
        with fast_denoiser(base, controlnet, print, half_products=half_products) as denoiser:
            recipe = Recipe("ddim", 4, 5.0)
            return render_latents(base, recipe, requests, embeddings, conditioning, denoiser=denoiser)


@pytest.mark.parametrize("conditioned", [False, True])
def test_they_differ_by_rounding_alone_and_leave_the_weights(tiny_base, tiny_folder, tmp_path, conditioned):
    column = columns_of([lora_folder(tmp_path, tiny_base)], [1.0])[1]
    conditioning = None
    if conditioned:
        drawing = torch.rand(3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0))
        conditioning = Conditioning(load_controlnet(tiny_folder / "controlnet", tiny_base), {"drawing": drawing})
    weights = {name: weight.clone() for name, weight in tiny_base.unet.state_dict().items()}
    plain = latents_of(tiny_base, column, conditioning, half_products=False)
    rounded = latents_of(tiny_base, column, conditioning, half_products=True)
    assert not torch.equal(rounded, plain)
    assert (rounded - plain).norm() < 0.02 * plain.norm()
    assert torch.equal(latents_of(tiny_base, column, conditioning, half_products=True), rounded)
    assert all(torch.equal(weights[name], weight) for name, weight in tiny_base.unet.state_dict().items())


@pytest.mark.parametrize(("precision", "half"), [("auto", True), ("fp32", False)])
def test_auto_makes_them_so_where_the_processor_has_amx(tiny_base, tmp_path, monkeypatch, precision, half):
    monkeypatch.setattr(devices, "bf16_instructions", lambda: {"amx_bf16": True})
    making = RenderJob(tiny_base, Grid(tmp_path, "hash", Recipe("ddim", 4, 5.0), precision, 1), None, None, print)
    with making.denoiser() as denoiser:
        assert denoiser.half_products is half
