"""Columns that are rendered together show what each shows by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from limner.adapters import Adapter, LowRankUpdates, attached
from limner.base.devices import pictures_at_once
from limner.blocks import fused
from limner.rendering import (
    Column,
    Conditioning,
    Grid,
    PlainDenoiser,
    PromptEmbeddings,
    Recipe,
    Request,
    columns_of,
    render_latents,
    render_plan,
)
from limner.rendering.columns import AttachedColumns
from limner.rendering.controlnet import load_controlnet
from tests.adapters.test_adapter import random_low_rank
from tests.rendering.folders import adapter_folder, full_folder, lora_folder, pngs

STEPS = 5
TOLERANCE = 1e-5  # of the largest latent, for each step taken


def requests_for(column, count):
    prompt = "a photo of cat" if column.adapter is None else "a photo of sks cat"
    return [Request(prompt, "ugly", seed, 0, (64, 64), f"drawing {seed}") for seed in range(count)]


def latents_of(base, recipe, columns, count, conditioning=None):
    """(V, count, 4, 8, 8) of columns rendered together."""
    texts = {column.label: ["a photo of cat", "a photo of sks cat", "ugly"] for column in columns}
    with AttachedColumns(base, texts) as attach:
        embeddings = attach(columns)
        requests = [request for column in columns for request in requests_for(column, count)]
        denoiser = PlainDenoiser(base.unet, conditioning.controlnet if conditioning else None)
        latents = render_latents(base, recipe, requests, embeddings, conditioning, denoiser=denoiser)
    return latents.unflatten(0, (len(columns), count))


@pytest.fixture
def columns(tiny_base, tmp_path):
    """The untouched base and LoRAs of several ranks, strengths and targets, one of the UNet alone."""
    everywhere = random_low_rank(tiny_base, 5, 2.0, targets="all", modules=("unet",), seed=4)
    adapters = [
        lora_folder(tmp_path, tiny_base),
        lora_folder(tmp_path, tiny_base, "other", alpha=1.0, seed=3),
        adapter_folder(tmp_path / "everywhere", Adapter.of("everywhere", LowRankUpdates(everywhere))),
    ]
    return columns_of(adapters, [1.0, 0.4])


@pytest.mark.parametrize("guidance_scale", [7.0, 1.0])
@pytest.mark.parametrize("conditioned", [False, True])
def test_stacked_equals_one_by_one(tiny_base, tiny_folder, columns, guidance_scale, conditioned):
    recipe, conditioning = Recipe("ddim", STEPS, guidance_scale), None
    if conditioned:
        generator = torch.Generator().manual_seed(0)
        images = {f"drawing {seed}": torch.rand(3, 64, 64, generator=generator) for seed in range(2)}
        conditioning = Conditioning(load_controlnet(tiny_folder / "controlnet", tiny_base), images)
    together = latents_of(tiny_base, recipe, columns, 2, conditioning)
    for own, column in zip(together, columns, strict=True):
        (alone,) = latents_of(tiny_base, recipe, [column], 2, conditioning)
        assert (own - alone).abs().max() <= TOLERANCE * STEPS * alone.abs().max(), column.label
    differences = [(together[0] - other).abs().max() for other in together[1:]]
    assert min(differences) > 0.01  # the columns differ


def test_stacked_in_fused_blocks(tiny_base, columns):
    """A GPU enters the fused blocks first and attaches columns inside."""
    recipe = Recipe("ddim", STEPS, 7.0)
    plain = latents_of(tiny_base, recipe, columns, 2)
    with fused(tiny_base.unet, everywhere=True):
        quick = latents_of(tiny_base, recipe, columns, 2)
    assert (quick - plain).abs().max() <= TOLERANCE * STEPS * plain.abs().max()
    assert not torch.equal(quick, plain)  # other arithmetic was at work
    assert torch.equal(plain, latents_of(tiny_base, recipe, columns, 2))


def test_one_column_is_what_attaching_its_adapter_gives(tiny_base, columns):
    from limner.adapters import load_trained

    recipe, column = Recipe("ddim", STEPS, 7.0), columns[2]
    (stacked,) = latents_of(tiny_base, recipe, [column], 2)
    with attached(tiny_base.modules(), load_trained(column.adapter), column.strength):
        plain = render_latents(tiny_base, recipe, requests_for(column, 2), PromptEmbeddings(tiny_base))
    assert torch.equal(stacked, plain)


def test_a_grid_together_and_one_by_one_and_a_remade_picture(tiny_base, tmp_path, columns):
    """Full weights among the columns; the pictures agree to a level, and a remade one is the same to the byte."""
    columns = [*columns, Column("dreambooth", full_folder(tmp_path, tiny_base))]
    before = {name: tensor.clone() for name, tensor in tiny_base.unet.state_dict().items()}
    pictures = {}
    for batch_size in (1, 6):
        folder = tmp_path / str(batch_size)
        grid = Grid(folder, "h", Recipe("ddim", 2, 7.0), "fp32", batch_size)
        cells = [
            grid.cell(column, request, f"{column.label}/{index}.png")
            for column in columns
            for index, request in enumerate(requests_for(column, 2))
        ]
        render_plan(tiny_base, grid, grid.plan(cells), lambda units: None)
        pictures[batch_size] = pngs(folder)
    assert len(pictures[6]) == 2 * len(columns)
    for name in pictures[1]:
        one, other = (np.asarray(Image.open(tmp_path / batch / name)).astype(int) for batch in ("1", "6"))
        assert np.abs(one - other).max() <= 1, name
    (tmp_path / "6" / "other" / "1.png").unlink()
    render_plan(tiny_base, grid, grid.plan(cells), lambda units: None)
    assert pngs(tmp_path / "6") == pictures[6]
    after = tiny_base.unet.state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_how_many_at_once():
    assert pictures_at_once(7, (64, 64), None) == 7
    assert pictures_at_once("auto", (512, 512), None) == pictures_at_once("auto", (64, 64), None) == 4
    assert pictures_at_once("auto", (512, 512), 8.0) == 4
    assert pictures_at_once("auto", (512, 512), 24.0) == pictures_at_once("auto", (64, 64), 24.0) == 16
    assert pictures_at_once("auto", (1024, 1024), 24.0) == 4
