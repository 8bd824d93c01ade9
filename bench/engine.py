"""The engine alone: captured training steps and renders, without a study's corridor, one process and one base."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from bench.kernels import gpu_profiler, kernel_split
from bench.pieces import (
    Notices,
    forget_peak,
    make_pictures,
    ready,
    rendering_base,
    requests,
    synchronize,
    training_base,
)
from bench.records import WINDOWS, memory_used
from bench.studies import Training
from bench.table import Figure, Row
from bench.tables import SWEEP_RANKS, Bench
from limner.adapters import LowRankUpdate, eject, inject_stacked, target_layers
from limner.adapters.low_rank import initial_update
from limner.base import Base
from limner.base.devices import choose_device
from limner.blocks import fast
from limner.config import FullVariant, LoraVariant, Memory, expand_variants
from limner.rendering import PromptEmbeddings, Recipe, begin_batch, fast_denoiser, render_latents

NATIVE_PX = 512
GUIDANCE_SCALE = 7.0
STACKED_LORAS, STACKED_RANK = 3, 16
PROFILED_STEPS, PROFILED_DENOISING_STEPS = 3, 2


@dataclass(frozen=True)
class Lengths:
    """How much is measured; `steps` are those of one of the three windows."""

    steps: int = 20
    batches: tuple[int, ...] = (16, 4, 1)
    denoising_steps: int = 35
    class_batches: int = 4


SMALL = Lengths(steps=1, batches=(4, 1), denoising_steps=3, class_batches=2)
"""On a processor, or with a base that is smaller than Stable Diffusion 1.5."""


def engine(bench: Bench, lengths: Lengths | None = None) -> list[Row]:
    """Every row in turn; ours alone."""
    device = choose_device(bench.ground.device)
    small = device.type != "cuda" or bench.ground.size_px < NATIVE_PX
    lengths = lengths or (SMALL if small else Lengths())
    rows = step_rows(bench, device, lengths)
    base = rendering_base(bench.ground.base, device)
    rows += render_rows(bench, base, lengths)
    return [*rows, class_images_row(bench, base, lengths), stacked_row(bench, base, lengths)]


def step_rows(bench: Bench, device: torch.device, lengths: Lengths) -> list[Row]:
    """The step alone of DreamBooth, of a LoRA and of seven ranks together."""
    base = training_base(bench.ground.base, device)
    full = Training("full", 2000, prior=True, text_encoder=True, eight_bit=True)
    lora = Training("lora", 2000, ranks=(16,), learning_rate=1e-4)
    works = {
        "a step of DreamBooth, batch 1 + 1, 8-bit moments": full,
        "a step of a LoRA of rank 16, batch 1": lora,
        "a step of seven ranks together": replace(lora, ranks=SWEEP_RANKS),
    }
    return [_step_row(bench, base, lengths, work, training) for work, training in works.items()]


def _step_row(bench: Bench, base: Base, lengths: Lengths, work: str, training: Training) -> Row:
    forget_peak(base.device)
    notices = Notices()
    settings = FullVariant if training.method == "full" else LoraVariant
    runs = expand_variants([settings(**training.variant())])
    with ready(runs, base, bench.ground.size_px, notices) as prepared:
        seconds = windows(prepared.step, lengths.steps, base.device)
        apart = f"set up in {prepared.set_up_seconds:.1f} s, captured in {prepared.capture_seconds:.1f} s"
        warm_up = prepared.set_up_seconds + prepared.capture_seconds
        row = _row(work, seconds, warm_up, "ms", "; ".join([apart, *notices.said]))
        return replace(row, split=split_of(bench, prepared.step, PROFILED_STEPS))


def render_rows(bench: Bench, base: Base, lengths: Lengths) -> list[Row]:
    """Pictures in batches, denoised, decoded and brought to the host."""
    notices, embeddings, rows = Notices(), PromptEmbeddings(base), []
    recipe = Recipe("ddim", lengths.denoising_steps, GUIDANCE_SCALE)
    size_px = bench.ground.size_px
    forget_peak(base.device)
    with fast_denoiser(base, None, notices.notice) as denoiser, fast(base.device, base.vae):

        def take(recipe: Recipe, batch: int) -> None:
            begin_batch(base, recipe, requests(batch, size_px), embeddings, denoiser=denoiser).images()

        for batch in lengths.batches:
            warm_up = _seconds(partial(take, replace(recipe, steps=1), batch), base.device)
            seconds = [second / batch for second in windows(partial(take, recipe, batch), 1, base.device)]
            work = f"a picture of {size_px}x{size_px}, batch {batch}"
            rows.append(_row(work, seconds, warm_up, "s", "; ".join([_description(recipe), *notices.said])))
        largest, few = requests(lengths.batches[0], size_px), replace(recipe, steps=PROFILED_DENOISING_STEPS)
        denoise = partial(render_latents, base, few, largest, embeddings, denoiser=denoiser)
        note = f"the split is of {PROFILED_DENOISING_STEPS} denoising steps of the whole batch" if bench.split else ""
        rows[0] = replace(rows[0], note=note, split=split_of(bench, denoise, 1))
    return rows


def class_images_row(bench: Bench, base: Base, lengths: Lengths) -> Row:
    """Class images as the grid makes them, from nothing to their files."""
    notices, folder, batch = Notices(), bench.fresh("engine-class"), lengths.batches[0]
    count, recipe = lengths.class_batches * batch, Recipe("ddim", lengths.denoising_steps, GUIDANCE_SCALE)
    forget_peak(base.device)
    seconds = _seconds(partial(make_pictures, base, folder, recipe, count, batch, Memory(), notices), base.device)
    description = (
        f"{_description(recipe)}, batch {batch}; {seconds / count:.3f} s a picture, capture and files included"
    )
    return _row(f"{count} class images with files", [seconds], None, "s", "; ".join([description, *notices.said]))


def stacked_row(bench: Bench, base: Base, lengths: Lengths) -> Row:
    """The untouched base and three LoRAs in one batch, denoised."""
    notices, embeddings, columns = Notices(), PromptEmbeddings(base), 1 + STACKED_LORAS
    recipe = Recipe("ddim", lengths.denoising_steps, GUIDANCE_SCALE)
    batch = max(lengths.batches[0], columns)
    asked = requests(batch // columns, bench.ground.size_px) * columns
    updates = [random_updates(base, STACKED_RANK, seed) for seed in range(STACKED_LORAS)]
    forget_peak(base.device)
    with fast_denoiser(base, None, notices.notice) as denoiser, contextlib.ExitStack() as after:
        after.callback(eject, base.unet)
        inject_stacked(base.unet, [{}, *updates], [1.0] * columns)

        def take(recipe: Recipe) -> None:
            render_latents(base, recipe, asked, [embeddings] * columns, denoiser=denoiser)

        warm_up = _seconds(partial(take, replace(recipe, steps=1)), base.device)
        seconds = [second / len(asked) for second in windows(partial(take, recipe), 1, base.device)]
    work = f"a picture, base and {STACKED_LORAS} LoRAs of rank {STACKED_RANK} in one batch of {len(asked)}"
    return _row(work, seconds, warm_up, "s", "; ".join([f"{_description(recipe)}, not decoded", *notices.said]))


def random_updates(base: Base, rank: int, seed: int) -> dict[str, LowRankUpdate]:
    """Updates of the UNet's attention with nothing zero in them, where the base lies and in its precision."""
    generator, layers, updates = torch.Generator().manual_seed(seed), dict(base.unet.named_modules()), {}
    for index, name in enumerate(target_layers(base.unet, "attention")):
        fresh = initial_update(layers[name], rank, float(rank), seed=seed, index=index)
        up = torch.randn(fresh.up.shape, generator=generator) * 0.02
        updates[name] = LowRankUpdate(fresh.down.to(base.dtype), up.to(base.dtype), fresh.alpha)
    return updates


def windows(take: Callable[[], object], count: int, device: torch.device) -> list[float]:
    """Seconds of one of `count` takes, in each of the windows."""

    def take_all() -> None:
        for _ in range(count):
            take()

    synchronize(device)
    return [_seconds(take_all, device) / count for _ in range(WINDOWS)]


def split_of(bench: Bench, take: Callable[[], object], calls: int) -> dict[str, float] | None:
    """GPU milliseconds of a call by kind of kernel, over `calls` of them; None unless the bench is to split."""
    profiler = gpu_profiler() if bench.split and bench.ground.device == "cuda" else None
    if profiler is None:
        return None
    take()
    torch.cuda.synchronize()
    with profiler:
        for _ in range(calls):
            take()
        torch.cuda.synchronize()
    return kernel_split(profiler, calls)


def _seconds(take: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    take()
    synchronize(device)
    return time.perf_counter() - began


def _row(work: str, seconds: Sequence[float], warm_up: float | None, unit: str, note: str) -> Row:
    return Row(work, Figure(tuple(seconds), warm_up, note=note, **memory_used()), None, unit)


def _description(recipe: Recipe) -> str:
    return f"DDIM {recipe.steps} steps, guidance {recipe.guidance_scale:g}"
