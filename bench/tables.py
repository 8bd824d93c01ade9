"""The tables: each measures its rows, ours and the peer's one after another on the same device."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import studies
from bench.processes import ProcessFailedError, run_module
from bench.records import Rate, Record, steady_rate
from bench.studies import Ground, Training
from bench.table import Figure, Row, figure

SWEEP_RANKS = (2, 4, 8, 16, 64, 128, 256)
RENDER_STEPS = 35
CLASS_BATCH = 16
LEAST_MEMORY = {"offload": True, "vae_batch_size": 1}


@dataclass(frozen=True)
class Lengths:
    """How much is measured and how long; units of warm-up are left out of the rates and reported separately."""

    training_batches: tuple[int, ...] = (1, 4)
    render_batches: tuple[int, ...] = (1, 4, 8, 16)
    class_batches: tuple[int, ...] = (4, 8, 16)  # of the peer, whose best counts
    peer_ranks: tuple[int, ...] = SWEEP_RANKS  # where some are left out, each counts as the fastest of these
    our_steps: int = 160
    our_warm_up: int = 40
    our_every: int = 10
    peer_steps: int = 36
    peer_warm_up: int = 6
    calls: int = 4  # batches rendered by a pipeline, the first as warm-up
    batches: int = 5  # batches rendered by ours: the first as warm-up, the last so that the one before is like others
    class_images: int = 160
    denoising_steps: int = RENDER_STEPS


BRIEF = Lengths(
    training_batches=(1,), render_batches=(1, 4, 16), class_batches=(16,), peer_ranks=(2, 256),
    our_steps=100, peer_steps=24, class_images=80,
)  # fmt: skip
"""Fewer rows and shorter windows, three each as ever: all tables in about ten minutes of one GPU."""


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure, and where the peers' scripts lie (None: ours alone)."""

    ground: Ground
    peers: Path | None
    lengths: Lengths = Lengths()
    split: bool = False

    def fresh(self, name: str) -> Path:
        """An empty folder for one run."""
        folder = self.ground.work / "runs" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def run_ours(self, name: str, tables: dict[str, Any], *, what: str, task: str, every: int) -> Record:
        """One limner process over a study of its own."""
        folder = self.fresh(f"ours-{name}")
        study = studies.write_study(folder, self.ground, tables)
        arguments: list[object] = [study, folder / "run", "--what", what, "--task", task, "--every", every]
        arguments += ["--device", self.ground.device]
        if self.split and self.ground.device == "cuda" and task == "train":
            arguments += ["--profile", self.lengths.our_warm_up // 2, self.lengths.our_warm_up // 2 + every]
        record = run_module("bench.ours", folder / "record.json", arguments)
        shutil.rmtree(folder / "run", ignore_errors=True)
        return record

    def run_script(self, name: str, training: Training, arithmetic: str, rank: int = 0) -> Record:
        """One process of a diffusers script, unchanged."""
        assert self.peers is not None
        folder = self.fresh(f"peer-{name}")
        arguments = training.script_arguments(self.ground, folder / "out", arithmetic=arithmetic, rank=rank)
        record = run_module("bench.observed", folder / "record.json", [self.peers / training.script, *arguments])
        shutil.rmtree(folder / "out", ignore_errors=True)
        return record


def attempt(measure: Callable[[], Figure]) -> Figure | None:
    """The figure, or None with the reason on stderr when its process failed or ran too short."""
    try:
        return measure()
    except (ProcessFailedError, ValueError) as error:
        print(f"not measured: {error}", file=sys.stderr, flush=True)
        return None


def our_training(
    bench: Bench, name: str, training: Training, memory: dict[str, Any] | None = None
) -> tuple[Figure | None, dict[str, float] | None]:
    """Seconds of a step of all ranks together, and the kernel-time split. `memory` is a study's [memory]."""
    lengths, split = bench.lengths, {}

    def measure() -> Figure:
        tables = studies.training_tables(bench.ground, [training]) | ({"memory": memory} if memory else {})
        record = bench.run_ours(name, tables, what="train", task="train", every=lengths.our_every)
        split.update(record.split or {})
        rate = steady_rate(record, lengths.our_warm_up)
        of_all = record.total_units / lengths.our_steps  # how many units a step of all variants is counted as
        return figure(record, [second * of_all for second in rate.seconds], rate.warm_up_seconds)

    return attempt(measure), split or None


def peer_training(bench: Bench, name: str, training: Training, arithmetic: str, rank: int = 0) -> Figure | None:
    """Seconds of a script's step."""
    if bench.peers is None:
        return None

    def measure() -> Figure:
        record = bench.run_script(name, training, arithmetic, rank)
        rate = steady_rate(record, bench.lengths.peer_warm_up)
        lacking = training.eight_bit and not studies.peer_has_eight_bit()
        note = "32-bit moments, bitsandbytes is not installed" if lacking else ""
        return figure(record, rate.seconds, rate.warm_up_seconds, note)

    return attempt(measure)


def training_rows(
    bench: Bench,
    work: str,
    training: Training,
    arithmetics: Sequence[str],
    batch_sizes: Sequence[int],
    memory: dict[str, Any] | None = None,
) -> list[Row]:
    """A row for each batch size and each arithmetic of the peer's."""
    rows = []
    for size in batch_sizes:
        ours_does = replace(training, batch_size=size, steps=bench.lengths.our_steps)
        name = f"{training.method}-{size}" + ("-least" if memory else "")
        ours, split = our_training(bench, name, ours_does, memory)
        for arithmetic in arithmetics:
            peer_does = replace(training, batch_size=size, steps=bench.lengths.peer_steps)
            rank = training.ranks[0] if training.ranks else 0
            peer = peer_training(bench, f"{name}-{arithmetic}", peer_does, arithmetic, rank)
            pictures = f"batch {size} + {size}" if training.prior else f"batch {size}"
            rows.append(Row(f"{work}, {pictures}, peer in {arithmetic}", ours, peer, split=split))
            split = None
    return rows


def arithmetics_of(bench: Bench) -> tuple[str, ...]:
    """What the peers are given to choose from: TensorFloat-32 is the fastest that their "no" mixed precision has."""
    return ("tf32", "bf16") if bench.ground.device == "cuda" else ("fp32",)


def dreambooth_step(bench: Bench) -> list[Row]:
    """UNet and text encoder, instance and class images, 8-bit moments."""
    training = Training("full", 0, prior=True, text_encoder=True, eight_bit=True)
    return training_rows(bench, "DreamBooth step", training, arithmetics_of(bench), bench.lengths.training_batches)


def lora_step(bench: Bench) -> list[Row]:
    """Rank 16 on the UNet's attention, frozen text encoder."""
    training = Training("lora", 0, ranks=(16,), learning_rate=1e-4)
    return training_rows(bench, "LoRA step, rank 16", training, arithmetics_of(bench), bench.lengths.training_batches)


def rank_sweep(bench: Bench) -> list[Row]:
    """Seven ranks trained together; the peer trains them one after another, so its steps add up."""
    training = Training("lora", bench.lengths.our_steps, ranks=SWEEP_RANKS, learning_rate=1e-4)
    ours, split = our_training(bench, "sweep", training)
    peer_does = replace(training, steps=bench.lengths.peer_steps)
    arithmetic = arithmetics_of(bench)[0]
    ranks = bench.lengths.peer_ranks
    peers = {rank: peer_training(bench, f"sweep-{rank}", peer_does, arithmetic, rank) for rank in ranks}
    measured = {rank: peer for rank, peer in peers.items() if peer is not None}
    peer = summed(measured, arithmetic) if len(measured) == len(peers) else None
    sweep = ", ".join(map(str, SWEEP_RANKS))
    return [Row("a step of seven ranks", ours, peer, note=f"ranks {sweep}, batch 1 each", split=split)]


def summed(peers: Mapping[int, Figure], arithmetic: str) -> Figure:
    """Runs of seven ranks one after another; one that was not measured counts as the fastest that was."""
    fastest = min(peers.values(), key=lambda side: side.median)
    runs = [peers.get(rank, fastest) for rank in SWEEP_RANKS]
    seconds = tuple(sum(each) for each in zip(*(run.seconds for run in runs), strict=True))
    note = f"the sum of {len(runs)} runs in {arithmetic}; memory of the largest"
    if left_out := [str(rank) for rank in SWEEP_RANKS if rank not in peers]:
        note += f"; ranks {', '.join(left_out)} were not measured and count as the fastest of {list(peers)}"
    return Figure(
        seconds,
        sum(run.warm_up_seconds or 0.0 for run in runs),
        sum(run.command_seconds or 0.0 for run in runs),
        max(run.reserved_bytes or 0 for run in runs) or None,
        note=note,
    )


def memory(bench: Bench) -> list[Row]:
    """Peak memory at the settings that need least, batch 1, no class images; the times are what that costs."""
    full = Training("full", 0, text_encoder=True, eight_bit=True, checkpointing=True, more={"master_weights": "none"})
    lora = Training("lora", 0, ranks=(16,), checkpointing=True, learning_rate=1e-4)
    arithmetic = arithmetics_of(bench)[-1:]
    works = {"DreamBooth step, least memory": full, "LoRA step, rank 16, least memory": lora}
    return [
        row
        for work, training in works.items()
        for row in training_rows(bench, work, training, arithmetic, (1,), LEAST_MEMORY)
    ]


def render(bench: Bench) -> list[Row]:
    """Seconds a picture at several batch sizes and at both sides' best."""
    size_px, of_square = bench.ground.size_px, bench.lengths.render_batches
    rows = []
    for size, batches in (((size_px, size_px), of_square), ((size_px * 3 // 2, size_px), of_square[-1:])):
        of_size = [_render_row(bench, size, batch) for batch in batches]
        rows += of_size
        if len(of_size) > 1:
            ours = min((row.ours for row in of_size if row.ours), key=lambda side: side.median, default=None)
            peer = min((row.peer for row in of_size if row.peer), key=lambda side: side.median, default=None)
            rows.append(Row(f"a picture of {size[0]}x{size[1]}, each at its best batch", ours, peer, "s"))
    return rows


def _render_row(bench: Bench, size: tuple[int, int], batch: int) -> Row:
    lengths = bench.lengths

    def ours() -> Figure:
        tables = studies.rendering_tables(size, batch, batch * lengths.batches, lengths.denoising_steps)
        name = f"render-{size[0]}-{batch}"
        record = bench.run_ours(name, tables, what="base-render", task="render", every=batch)
        rate = rendering_rate(record, batch)
        return figure(record, rate.seconds, rate.warm_up_seconds)

    return Row(
        f"a picture of {size[0]}x{size[1]}, batch {batch}",
        attempt(ours),
        peer_rendering(bench, size, batch, lengths.calls),
        "s",
        f"DDIM {lengths.denoising_steps} steps, guidance 7, fp16 on a GPU",
    )


def rendering_rate(record: Record, batch: int) -> Rate:
    """The rate of ours, whose pictures are fetched while the next batch is computed: the last has none behind it."""
    return steady_rate(replace(record, marks=record.marks[:-1]), batch)


def peer_rendering(bench: Bench, size: tuple[int, int], batch: int, calls: int, *more: object) -> Figure | None:
    """Seconds a picture of diffusers' pipeline."""
    if bench.peers is None:
        return None

    def measure() -> Figure:
        folder = bench.fresh(f"peer-render-{size[0]}-{batch}")
        arguments = [
            bench.ground.base,
            "--out",
            folder / "pictures",
            "--batch",
            batch,
            "--size",
            *size,
            "--calls",
            calls,
        ]
        arguments += ["--steps", bench.lengths.denoising_steps, "--device", bench.ground.device, *more]
        record = run_module("bench.peer_pipeline", folder / "record.json", arguments)
        rate = steady_rate(record, batch)
        return figure(record, rate.seconds, rate.warm_up_seconds)

    return attempt(measure)


def class_images(bench: Bench) -> list[Row]:
    """500 class images: whole commands, from the rate and the warm-up; the peer at its best batch size."""
    lengths, size = bench.lengths, (bench.ground.size_px, bench.ground.size_px)

    def ours() -> Figure:
        tables = studies.class_tables(lengths.class_images, lengths.denoising_steps, {"batch_size": CLASS_BATCH})
        record = bench.run_ours("class", tables, what="class-images", task="class-images", every=CLASS_BATCH)
        rate = rendering_rate(record, CLASS_BATCH)
        return _of_500(figure(record, rate.seconds, rate.warm_up_seconds))

    peers = [peer_rendering(bench, size, batch, lengths.calls) for batch in lengths.class_batches]
    best = min((peer for peer in peers if peer), key=lambda side: side.median, default=None)
    note = (
        f"DDIM {lengths.denoising_steps} steps, guidance 7; 500 times the steady seconds a picture, measured on "
        f"{lengths.class_images} pictures, and the warm-up once; the peer at the best of batches "
        f"{', '.join(map(str, lengths.class_batches))}"
    )
    return [Row("500 class images", attempt(ours), best and _of_500(best), "s", note)]


def _of_500(side: Figure) -> Figure:
    return replace(side, seconds=tuple(500 * second + (side.warm_up_seconds or 0.0) for second in side.seconds))


def control(bench: Bench) -> list[Row]:
    """Seconds a picture through ControlNet-canny, UniPC; ours has no rate of its own, so this is the peer's alone."""
    picture = studies.write_pictures(bench.ground.work / "references", 1, bench.ground.size_px, first=2000)
    size = (bench.ground.size_px, bench.ground.size_px)
    rows = []
    for batch in (1, 4):
        peer = peer_rendering(bench, size, batch, bench.lengths.calls, "--controlnet", picture / "0000.png")
        rows.append(Row(f"a ControlNet picture, batch {batch}", None, peer, "s"))
    return rows
