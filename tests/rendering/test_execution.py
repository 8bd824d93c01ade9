"""Making a grid within a GPU's memory: parts that take turns, and fewer pictures at once."""

from __future__ import annotations

import pytest
import torch

from limner.base import find_base, load_base
from limner.config import Memory
from limner.errors import LimnerError
from limner.rendering import Column, Conditioning, Grid, Recipe, Request, render_plan
from limner.rendering.controlnet import load_controlnet
from tests.rendering.folders import Recorder, full_folder, lora_folder, pngs
from tests.second_device import DEVICE, SecondDevice

PARTS = ("unet", "text_encoder", "vae")


@pytest.fixture
def columns(tiny_base, tmp_path):
    """The untouched base, a LoRA and whole weights."""
    folders = [lora_folder(tmp_path / "adapters", tiny_base), full_folder(tmp_path / "adapters", tiny_base)]
    return [Column("base"), *(Column(folder.label, folder) for folder in folders)]


def grid_of(folder, columns, *, memory=None, batch_size=4, count=3, reference=""):
    """A grid of `count` pictures a column, and its plan."""
    grid = Grid(folder, "h", Recipe("ddim", 2, 3.0), "fp32", batch_size, memory=memory or Memory())
    cells = [
        grid.cell(column, Request("a photo of cat", "", seed, 0, (64, 64), reference), f"{column.label}/{seed}.png")
        for column in columns
        for seed in range(count)
    ]
    return grid, grid.plan(cells)


def made(base, grid, plan, conditioning=None, notice=None):
    given = (conditioning, notice) if notice else (conditioning,)
    verdicts = render_plan(base, grid, plan, lambda units: None, *given)
    assert len(verdicts) == len(plan.cells)
    return pngs(grid.folder)


def test_parts_that_take_turns_make_the_same_bytes(tiny_base, columns, tmp_path):
    together = made(tiny_base, *grid_of(tmp_path / "a", columns))
    in_turns = made(tiny_base, *grid_of(tmp_path / "b", columns, memory=Memory(offload=True)))
    assert len(together) == 9
    assert in_turns == together


@pytest.mark.parametrize("controlled", [False, True])
def test_offloaded_only_the_part_that_works_is_on_the_device(tiny_folder, tiny_base, columns, tmp_path, controlled):
    base = load_base(find_base(str(tiny_folder)), device=DEVICE, waiting=True)
    before = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    conditioning = None
    if controlled:
        controlnet = load_controlnet(tiny_folder / "controlnet", base, device=torch.device("cpu"))
        conditioning = Conditioning(controlnet, {"r": torch.zeros(3, 64, 64)})
    seen = set()

    def look(part):
        there = {name for name in PARTS if next(getattr(base, name).parameters()).device == DEVICE}
        seen.add((part, *sorted(there)))

    base.unet.register_forward_pre_hook(lambda *_: look("unet"))
    base.text_encoder.register_forward_pre_hook(lambda *_: look("text_encoder"))
    decode = base.vae.decode
    base.vae.decode = lambda latents: look("vae") or decode(latents)
    memory = Memory(offload=True, vae_batch_size=1)
    grid, plan = grid_of(tmp_path / "grid", columns, memory=memory, reference="r" if controlled else "")
    with SecondDevice() as device:
        assert len(made(base, grid, plan, conditioning)) == 9
        assert device.now < 0.01 * sum(tensor.nbytes for tensor in before.values())
    assert seen == {(part, part) for part in PARTS}
    assert all(torch.equal(before[name], tensor) for name, tensor in base.unet.state_dict().items())


def too_small_for(base, rows):
    """Let the UNet run out of memory with more rows than these."""

    def refuse(module, args):
        if len(args[0]) > rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    return base.unet.register_forward_pre_hook(refuse)


@pytest.mark.parametrize("offload", [False, True])
def test_out_of_memory_a_grid_is_made_with_half_as_many_at_once(tiny_base, columns, tmp_path, offload):
    wanted = made(tiny_base, *grid_of(tmp_path / "wanted", columns, batch_size=2))
    said = Recorder()
    memory = Memory(offload=offload)
    with too_small_for(tiny_base, rows=4):  # two guided pictures
        grid, plan = grid_of(tmp_path / "small", columns, batch_size=8, memory=memory)
        assert made(tiny_base, grid, plan, notice=said.notice) == wanted
    assert said.notices == [
        "the GPU's memory is too small for 8 pictures at once; the batch size is now 4",
        "the GPU's memory is too small for 4 pictures at once; the batch size is now 2",
    ]


def test_pictures_made_before_memory_ran_out_are_not_made_again(tiny_base, tmp_path):
    counted = []
    grid, plan = grid_of(tmp_path / "grid", [Column("base")], batch_size=4, count=8)
    rows = []

    def refuse(module, args):
        rows.append(len(args[0]))
        if len(rows) == 3:  # the second batch's first step
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with tiny_base.unet.register_forward_pre_hook(refuse):
        render_plan(tiny_base, grid, plan, counted.append)
    assert rows == [8, 8, 8, 4, 4, 4, 4]
    assert counted == [4, 2, 2]


def test_too_little_memory_for_one_picture_is_an_error_that_says_what_to_do(tiny_base, columns, tmp_path):
    grid, plan = grid_of(tmp_path / "grid", columns)
    with (
        too_small_for(tiny_base, rows=1),
        pytest.raises(LimnerError, match=r"too little memory to render one picture; set memory\.offload = true"),
    ):
        render_plan(tiny_base, grid, plan, lambda units: None)
    assert not any(module.training for module in tiny_base.parts())
