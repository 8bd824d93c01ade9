"""Making what a grid lacks, as fast as the device's memory allows.

With all parts of the base on the device one batch follows another. Offloaded, only the parts that work lie there:
the text encoder while prompts are encoded, the UNet while it denoises, the VAE while it decodes.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from limner.base import Base, modules_placed, placed
from limner.base.devices import device_memory_gib, multiplies_in_bf16, pictures_at_once
from limner.blocks import fast
from limner.config import Memory
from limner.errors import LimnerError
from limner.progress import SILENT, Advance
from limner.rendering.batch import (
    Begun,
    Conditioning,
    PromptEmbeddings,
    begin_batch,
    begin_decoding,
    checked,
    render_latents,
)
from limner.rendering.columns import AttachedColumns, Column
from limner.rendering.denoiser import Denoiser
from limner.rendering.fast import fast_denoiser
from limner.rendering.grid import Grid, Plan, Planned, parameters_of, stamp_of
from limner.rendering.writer import PictureWriter

T = TypeVar("T")
ROUND = 64  # pictures that are denoised before they are decoded: what an interruption may cost

Made = tuple[Sequence[Planned], np.ndarray, list[bool | None]]
"""A batch, its pictures (B, H, W, 3) uint8 and the safety checker's verdicts."""


@dataclass(frozen=True)
class Making:
    """What all batches of a grid are made with."""

    base: Base
    grid: Grid
    attach: AttachedColumns
    conditioning: Conditioning | None
    notice: Callable[[str], None]

    @property
    def controlnet(self):
        """The ControlNet, where there is one."""
        return self.conditioning.controlnet if self.conditioning else None

    def denoiser(self) -> contextlib.AbstractContextManager[Denoiser]:
        """What denoises the batches, in the precision that the grid asks for."""
        half_products = multiplies_in_bf16(self.grid.precision, self.base.device)
        return fast_denoiser(self.base, self.controlnet, self.notice, half_products=half_products)


def render_plan(
    base: Base,
    grid: Grid,
    plan: Plan,
    advance: Advance,
    conditioning: Conditioning | None = None,
    notice: Callable[[str], None] = SILENT.notice,
) -> dict[str, bool | None]:
    """Make what the plan lacks and write it; returns the safety checker's verdict on every new picture.

    `base` is in the precision to render in; its weights are afterwards bit for bit what they were. Where a GPU's
    memory is too small, half as many pictures are taken at once, with a notice. Raises LimnerError when it is too
    small for one.
    """
    verdicts: dict[str, bool | None] = {}
    largest = max((cell.request.size for cell in plan.cells), key=math.prod)
    at_once = pictures_at_once(grid.batch_size, largest, _memory_gib(grid.memory, base.device))

    def left() -> Plan:
        return replace(plan, there={**plan.there, **verdicts})

    with PictureWriter() as writer, AttachedColumns(base, _texts_of(plan.cells)) as attach:

        def keep(made: Made) -> None:
            new = [row for row in zip(*made, strict=True) if row[0].file not in left().there]
            for cell, image, flagged in new:
                writer.write(
                    grid.folder / cell.file, image, stamp_of(grid, cell, flagged), parameters_of(base, grid, cell)
                )
                verdicts[cell.file] = flagged
            advance(len(new))

        making = Making(base, grid, attach, conditioning, notice)
        while not _made(making, left().batches(at_once), at_once, keep):
            torch.cuda.empty_cache()
            notice(f"the GPU's memory is too small for {at_once} pictures at once; {at_once // 2} are taken")
            at_once //= 2
    return verdicts


def _made(making: Making, batches: Sequence[Sequence[Planned]], at_once: int, keep: Callable[[Made], None]) -> bool:
    """Make the batches; False when the GPU's memory was too small for so many pictures at once."""
    pictures = _in_turns if making.grid.memory.offload else _one_after_another
    try:
        with contextlib.closing(pictures(making, batches)) as every:
            for made in every:
                keep(made)
        return True
    except torch.cuda.OutOfMemoryError:
        if at_once == 1:
            raise LimnerError(
                "the GPU has too little memory to render one picture; set memory.offload = true and "
                "memory.vae_batch_size = 1, or run limner doctor on the study"
            ) from None
        return False


def _one_after_another(making: Making, batches: Sequence[Sequence[Planned]]) -> Generator[Made]:
    """With all parts on the device, a GPU computes the next batch while the host deals with this one."""
    base, grid = making.base, making.grid
    with making.denoiser() as denoiser, fast(base.device, base.vae):

        def begin(batch: Sequence[Planned]) -> tuple[Sequence[Planned], Begun]:
            embeddings, requests = making.attach(_columns_in(batch)), [cell.request for cell in batch]
            slices = grid.memory.vae_batch_size
            return batch, begin_batch(base, grid.recipe, requests, embeddings, making.conditioning, denoiser, slices)

        for batch, begun in _ahead(map(begin, batches), 1 if base.device.type == "cuda" else 0):
            yield batch, *checked(base, begun.images(), check=grid.check)


def _in_turns(making: Making, batches: Sequence[Sequence[Planned]]) -> Generator[Made]:
    """The parts take turns on the device, once for each round of batches."""
    base, grid = making.base, making.grid
    for batches_of_round in _rounds(batches):
        embeddings = making.attach(_columns_in(batches_of_round[0]))  # while the UNet waits: what it displaces does too
        with modules_placed(base.device, base.unet, making.controlnet):
            latents = _denoised(making, batches_of_round, embeddings)
        with placed(base, "vae", "safety_checker"), fast(base.device, base.vae):
            for batch, of_batch in zip(batches_of_round, latents, strict=True):
                images = begin_decoding(base, of_batch, grid.memory.vae_batch_size).images()
                yield batch, *checked(base, images, check=grid.check)


def _denoised(
    making: Making, batches: Sequence[Sequence[Planned]], embeddings: Sequence[PromptEmbeddings]
) -> list[Tensor]:
    """Latents (B, 4, H/8, W/8) of every batch; what was captured for them is gone when they are returned."""
    base, recipe, conditioning = making.base, making.grid.recipe, making.conditioning
    with making.denoiser() as denoiser:
        return [
            render_latents(base, recipe, [cell.request for cell in batch], embeddings, conditioning, denoiser=denoiser)
            for batch in batches
        ]


def _rounds(batches: Sequence[Sequence[Planned]]) -> Iterator[list[Sequence[Planned]]]:
    """Batches of the same columns that follow one another, up to ROUND pictures."""
    together: list[Sequence[Planned]] = []
    for batch in batches:
        full = sum(map(len, together)) + len(batch) > ROUND
        if together and (full or _columns_in(batch) != _columns_in(together[0])):
            yield together
            together = []
        together.append(batch)
    if together:
        yield together


def _columns_in(batch: Sequence[Planned]) -> list[Column]:
    return list(dict.fromkeys(cell.column for cell in batch))


def _texts_of(cells: Sequence[Planned]) -> dict[str, list[str]]:
    """What each column's text encoder has to encode, by the column's label."""
    texts: dict[str, list[str]] = {}
    for cell in cells:
        texts.setdefault(cell.column.label, []).extend([cell.request.prompt, cell.request.negative_prompt])
    return texts


def _memory_gib(memory: Memory, device: torch.device) -> float | None:
    """What a GPU has, or what of it may be used."""
    there = device_memory_gib(device)
    return there if there is None or memory.budget_gib == "auto" else min(there, memory.budget_gib)


def _ahead(begun: Iterator[T], count: int) -> Iterator[T]:
    """Each item once `count` more have been begun: a GPU computes those while the host deals with this one."""
    waiting: deque[T] = deque()
    for item in begun:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
