"""The engine's pieces without a study's corridor: a base, encoded pictures, a training that is ready to step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import studies
from limner.base import Base, find_base, load_base
from limner.base.devices import rendering_dtype
from limner.config import Memory, Subject, VariantRun
from limner.progress import Progress
from limner.rendering import Column, Grid, Recipe, Request, render_plan
from limner.training import EncodedPictures, Training, set_up
from limner.training.captured import captured


class Notices(Progress):
    """A progress that keeps what limner says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def notice(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)


@dataclass
class Ready:
    """A training before its first step. `step` takes one, captured on a GPU, and may return before it is done."""

    training: Training
    step: Callable[[], None]
    set_up_seconds: float
    capture_seconds: float


@contextlib.contextmanager
def ready(runs: Sequence[VariantRun], base: Base, size_px: int, progress: Progress) -> Iterator[Ready]:
    """Set `runs` up together on random encoded pictures of `size_px` and capture their step."""
    prior = runs[0].variant.prior_preservation
    subject = Subject(photos=Path("photos"), class_noun=studies.CLASS_NOUN)
    prompts = [studies.INSTANCE_PROMPT, *([studies.CLASS_PROMPT] if prior else [])]
    photos = encoded_pictures(base, studies.PHOTOS, size_px, seed=0)
    of_class = encoded_pictures(base, studies.CLASS_IMAGES, size_px, seed=1) if prior else None
    began = time.perf_counter()
    with set_up(runs, base, subject, prompts, photos, of_class, None) as training:
        synchronize(base.device)
        there = time.perf_counter()
        step = captured(training.work, "bench", progress)
        synchronize(base.device)
        yield Ready(training, step, there - began, time.perf_counter() - there)


def encoded_pictures(base: Base, count: int, size_px: int, *, seed: int) -> EncodedPictures:
    """Random moments of `count` pictures on the base's device."""
    side = size_px // base.vae_factor
    moments = torch.randn(count, 8, side, side, generator=torch.Generator().manual_seed(seed))
    return EncodedPictures(moments.to(base.device))


def training_base(path: Path, device: torch.device) -> Base:
    """The base as a study trains it: on a GPU in fp16 but for the VAE, all parts waiting on the processor."""
    gpu = device.type == "cuda"
    dtype = torch.float16 if gpu else torch.float32
    base = load_base(find_base(str(path)), device=device, dtype=dtype, waiting=gpu)
    base.vae.to(torch.float32)
    return base


def rendering_base(path: Path, device: torch.device, *, waiting: bool = False) -> Base:
    """The base as a study renders with it: in fp16 on a GPU."""
    return load_base(find_base(str(path)), device=device, dtype=rendering_dtype("auto", device), waiting=waiting)


def requests(count: int, size_px: int) -> list[Request]:
    """Square pictures of the class, one for each of `count` seeds."""
    return [Request(studies.CLASS_PROMPT, "blurry", seed, 0, (size_px, size_px)) for seed in range(count)]


def make_pictures(
    base: Base, folder: Path, recipe: Recipe, count: int, batch_size: int, memory: Memory, progress: Progress
) -> None:
    """`count` pictures by the base as it is through a grid into `folder`."""
    precision = "fp16" if base.dtype == torch.float16 else "fp32"
    grid = Grid(folder, "random", recipe, precision, batch_size, check=False, memory=memory)
    asked = requests(count, base.native_size_px)
    cells = [grid.cell(Column("base"), request, f"{request.seed:04d}.png") for request in asked]
    render_plan(base, grid, grid.plan(cells), lambda units: None, notice=progress.notice)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Give back what nothing holds, and count the peak of memory anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
