"""Renders the missing pictures of a grid, as fast as the device's memory allows.

Without offloading all parts of the base are on the device and batches follow one another. With it, only the part that
works is there: the text encoder for prompts, the UNet for denoising, the VAE for decoding.
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
    Conditioning,
    PendingBatch,
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
ROUND = 64  # pictures that are denoised before they are decoded; an interruption loses at most these

RenderedBatch = tuple[Sequence[Planned], np.ndarray, list[bool | None]]
"""A batch, its pictures (B, H, W, 3) uint8 and the safety checker's verdicts."""


@dataclass(frozen=True)
class RenderJob:
    """What all batches of a grid need."""

    base: Base
    grid: Grid
    attach: AttachedColumns
    conditioning: Conditioning | None
    notice: Callable[[str], None]

    @property
    def controlnet(self):
        """The ControlNet, or None."""
        return self.conditioning.controlnet if self.conditioning else None

    def denoiser(self) -> contextlib.AbstractContextManager[Denoiser]:
        """The denoiser for the batches, in the precision of the grid."""
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
    """Render the missing pictures of the plan and write them; returns the safety checker's verdict on each.

    `base` is in the precision to render in; afterwards its weights are restored bit for bit. If a GPU's memory is too
    small, the batch size is halved, with a notice. Raises LimnerError if it is too small for one picture.
    """
    verdicts: dict[str, bool | None] = {}
    largest = max((cell.request.size for cell in plan.cells), key=math.prod)
    at_once = pictures_at_once(grid.batch_size, largest, _memory_gib(grid.memory, base.device))

    def remaining() -> Plan:
        return replace(plan, present={**plan.present, **verdicts})

    with PictureWriter() as writer, AttachedColumns(base, _texts_of(plan.cells)) as attach:

        def keep(batch_result: RenderedBatch) -> None:
            new = [row for row in zip(*batch_result, strict=True) if row[0].file not in remaining().present]
            for cell, image, flagged in new:
                writer.write(
                    grid.folder / cell.file, image, stamp_of(grid, cell, flagged), parameters_of(base, grid, cell)
                )
                verdicts[cell.file] = flagged
            advance(len(new))

        job = RenderJob(base, grid, attach, conditioning, notice)
        while not _render_batches(job, remaining().batches(at_once), at_once, keep):
            torch.cuda.empty_cache()
            notice(
                f"the GPU's memory is too small for {at_once} pictures at once; the batch size is now {at_once // 2}"
            )
            at_once //= 2
    return verdicts


def _render_batches(
    job: RenderJob, batches: Sequence[Sequence[Planned]], at_once: int, keep: Callable[[RenderedBatch], None]
) -> bool:
    """Render the batches; False if the GPU's memory was too small for so many pictures at once."""
    pictures = _render_offloaded if job.grid.memory.offload else _render_pipelined
    try:
        with contextlib.closing(pictures(job, batches)) as every:
            for batch_result in every:
                keep(batch_result)
        return True
    except torch.cuda.OutOfMemoryError:
        if at_once == 1:
            raise LimnerError(
                "the GPU has too little memory to render one picture; set memory.offload = true and "
                "memory.vae_batch_size = 1, or run limner doctor on the study"
            ) from None
        return False


def _render_pipelined(job: RenderJob, batches: Sequence[Sequence[Planned]]) -> Generator[RenderedBatch]:
    """With all parts on the device, a GPU computes the next batch while the host handles this one."""
    base, grid = job.base, job.grid
    with job.denoiser() as denoiser, fast(base.device, base.vae):

        def begin(batch: Sequence[Planned]) -> tuple[Sequence[Planned], PendingBatch]:
            embeddings, requests = job.attach(_columns_in(batch)), [cell.request for cell in batch]
            slices = grid.memory.vae_batch_size
            return batch, begin_batch(base, grid.recipe, requests, embeddings, job.conditioning, denoiser, slices)

        for batch, pending in _ahead(map(begin, batches), 1 if base.device.type == "cuda" else 0):
            yield batch, *checked(base, pending.images(), check=grid.check)


def _render_offloaded(job: RenderJob, batches: Sequence[Sequence[Planned]]) -> Generator[RenderedBatch]:
    """The parts are moved to the device one after another, once for each round of batches."""
    base, grid = job.base, job.grid
    for batches_of_round in _rounds(batches):
        embeddings = job.attach(
            _columns_in(batches_of_round[0])
        )  # while the UNet is on the CPU, so that attaching needs no device memory
        with modules_placed(base.device, base.unet, job.controlnet):
            latents = _denoised(job, batches_of_round, embeddings)
        with placed(base, "vae", "safety_checker"), fast(base.device, base.vae):
            for batch, of_batch in zip(batches_of_round, latents, strict=True):
                images = begin_decoding(base, of_batch, grid.memory.vae_batch_size).images()
                yield batch, *checked(base, images, check=grid.check)


def _denoised(
    job: RenderJob, batches: Sequence[Sequence[Planned]], embeddings: Sequence[PromptEmbeddings]
) -> list[Tensor]:
    """Latents (B, 4, H/8, W/8) of every batch; captured graphs are released when they are returned."""
    base, recipe, conditioning = job.base, job.grid.recipe, job.conditioning
    with job.denoiser() as denoiser:
        return [
            render_latents(base, recipe, [cell.request for cell in batch], embeddings, conditioning, denoiser=denoiser)
            for batch in batches
        ]


def _rounds(batches: Sequence[Sequence[Planned]]) -> Iterator[list[Sequence[Planned]]]:
    """Consecutive batches of the same columns, up to ROUND pictures."""
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
    """The texts to encode for each column, by the column's label."""
    texts: dict[str, list[str]] = {}
    for cell in cells:
        texts.setdefault(cell.column.label, []).extend([cell.request.prompt, cell.request.negative_prompt])
    return texts


def _memory_gib(memory: Memory, device: torch.device) -> float | None:
    """A GPU's memory, or the share of it that may be used."""
    memory_gib = device_memory_gib(device)
    return memory_gib if memory_gib is None or memory.budget_gib == "auto" else min(memory_gib, memory.budget_gib)


def _ahead(started: Iterator[T], count: int) -> Iterator[T]:
    """Each item once `count` more were started: a GPU computes those while the host handles this one."""
    waiting: deque[T] = deque()
    for item in started:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
