"""One job of the check of unseen subjects: teach one cat in one way, render it, judge the renders.

Jobs run in worker processes: a step of so small a network keeps neither a GPU nor many cores busy.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from limner.adapters import attached, load_trained
from limner.artifacts import ClassSet, PhotoSet
from limner.base import Base, find_base, load_base
from limner.base.devices import device_memory_gib, pictures_at_once
from limner.config import Render, Subject, VariantRun
from limner.embeddings import EfficientNetLite0, PairEmbedder, SubjectHeads, find_embedder
from limner.embeddings.crops import Part
from limner.errors import LimnerError
from limner.measuring import nearest_photo
from limner.rendering import PromptEmbeddings, Recipe, Request, render_batch
from limner.stages.context import Context
from limner.stages.train import TrainingRequest, train
from miniature.individuals import CLASS_NOUN, Individual, load_embedder
from miniature.recognition import StyleNamer, style_prompts
from miniature.styles import STYLE_NAMES

PHOTO_RENDERS = SKETCH_RENDERS = 10
GREY = 25.0  # of 255: a sketch whose channels differ by more on the mean was not drawn with a pencil
FIRST_STYLED_SEED = 100
STYLED = tuple(name for name in STYLE_NAMES if name != "photo")
THUMBNAIL_PX = 112


@dataclass(frozen=True)
class Bench:
    """What all jobs of a command share."""

    family: Path
    scratch: Path
    efficientnet: str
    devices: tuple[str, ...]
    threads: int
    individuals: list[Individual]


@dataclass(frozen=True)
class Task:
    """One cat taught in one way."""

    config: int
    name: str
    run: VariantRun
    subject: Subject
    render: Render
    photos: Path
    class_images: Path
    eval_steps: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """A folder's name."""
        return f"{self.config}-{self.run.label}-{self.name}"


@dataclass(frozen=True)
class Judgement:
    """What is seen in the renders after one number of steps."""

    named: list[str]
    """Nearest cat of each photo render."""
    margins: list[float]
    """Similarity of each to its own prototype less that to the nearest other."""
    likeness: list[float]
    """Similarity of each to its own prototype."""
    heads_found: int
    greys: list[float]
    """Of each pencil sketch how far its channels differ (`greyness`)."""
    styles: dict[str, str]
    """Asked style: named style."""
    nearest_photo: list[float]
    copy_limit: float
    thumbnails: list[np.ndarray] = field(repr=False)

    @property
    def sketches(self) -> int:
        """Pencil sketches that are grey."""
        return sum(grey < GREY for grey in self.greys)

    @property
    def copies(self) -> int:
        """Photo renders nearer to a training photo than real photos are to each other."""
        return sum(similarity > self.copy_limit for similarity in self.nearest_photo)


@dataclass(frozen=True)
class Outcome:
    """All of one job."""

    task: Task
    judgements: dict[int, Judgement]
    seconds: float
    seconds_per_step: float
    final_loss: float | None
    device: str
    fault: str = ""
    """Why there are no judgements; a grid goes on without this job."""


@dataclass
class Worker:
    """The models of one process."""

    bench: Bench
    device: str
    base: Base
    base_hash: str
    embedder: EfficientNetLite0
    pair: PairEmbedder
    namer: StyleNamer
    prototypes: Tensor  # (8, D)
    whole_prototypes: Tensor  # (8, D)

    def carry_out(self, task: Task) -> Outcome:
        """Train, render and judge."""
        started = time.monotonic()
        judgements: dict[int, Judgement] = {}
        photo_set, class_set = PhotoSet(task.photos), ClassSet(task.class_images)

        def validate(step: int) -> None:
            if step in task.eval_steps and step < task.run.variant.steps:
                judgements[step] = self.judge(task, len(photo_set.files))

        out, work = (self.bench.scratch / folder / task.key for folder in ("adapters", "training"))
        shutil.rmtree(work, ignore_errors=True)  # of a command that was cut short
        try:
            order = TrainingRequest(task.run, out / task.run.label, work, validate)
            context = Context(task.subject, lambda: self.base, self.base_hash)
            (adapter,) = train([order], context, photo_set, class_set, None)
            with attached(self.base.modules(), load_trained(adapter)):
                judgements[task.run.variant.steps] = self.judge(task, len(photo_set.files))
            record = adapter.record
        finally:
            for folder in (out, work):
                shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - started
        return Outcome(task, judgements, seconds, record.seconds_per_step or 0.0, record.loss, self.device)

    def judge(self, task: Task, photos: int) -> Judgement:
        """Render from the base's modules as they are, and look at the pictures."""
        pictures = self.render(task)
        in_photos, sketched = pictures[:PHOTO_RENDERS], pictures[PHOTO_RENDERS : PHOTO_RENDERS + SKETCH_RENDERS]
        styled = pictures[PHOTO_RENDERS + SKETCH_RENDERS :]
        heads = SubjectHeads(CLASS_NOUN, PhotoSet(task.photos).files, self.device).crop
        parts = heads.parts(in_photos, self.embedder.size_px)
        similarity = self._to_prototypes(parts)  # (10, 8)
        names = [cat.name for cat in self.bench.individuals]
        own = names.index(task.name)
        others = similarity.clone()
        others[:, own] = -torch.inf
        cat = self.bench.individuals[own]
        nearest = nearest_photo(self.embedder.embed(in_photos), cat.views[:photos])
        named_styles = self.namer.name(self.pair.embed(styled))
        return Judgement(
            named=[names[index] for index in similarity.argmax(1).tolist()],
            margins=(similarity[:, own] - others.amax(1)).tolist(),
            likeness=similarity[:, own].tolist(),
            heads_found=sum(part.found for part in parts),
            greys=[greyness(picture) for picture in sketched],
            styles=dict(zip(STYLED, named_styles, strict=True)),
            nearest_photo=nearest.tolist(),
            copy_limit=cat.copy_limit,
            thumbnails=[thumbnail(picture) for picture in pictures],
        )

    def _to_prototypes(self, parts: Sequence[Part]) -> Tensor:
        """Similarity (N, 8) of what was cut out to each cat: heads to heads, renders without one to whole photos."""
        vectors = self.embedder.embed([part.image for part in parts])
        found = torch.tensor([part.found for part in parts])
        return torch.where(found[:, None], vectors @ self.prototypes.T, vectors @ self.whole_prototypes.T)

    def render(self, task: Task) -> list[np.ndarray]:
        """Ten photos, ten pencil sketches, one picture of each other style, with the study's render settings."""
        settings, phrase = task.render, task.subject.phrase
        prompts = [(task.subject.fill("a photo of {subject}"), seed) for seed in range(PHOTO_RENDERS)]
        prompts += [(task.subject.fill("a pencil sketch of {subject}"), seed) for seed in range(SKETCH_RENDERS)]
        prompts += [(style_prompts(style, phrase)[0], FIRST_STYLED_SEED + n) for n, style in enumerate(STYLED)]
        recipe = Recipe(settings.sampler, settings.steps, settings.guidance_scale)
        requests = [Request(text, settings.negative_prompt, seed, 0, settings.size) for text, seed in prompts]
        together = pictures_at_once(settings.batch_size, settings.size, device_memory_gib(self.base.device))
        embeddings = PromptEmbeddings(self.base)
        parts = [
            render_batch(self.base, recipe, requests[start : start + together], embeddings, check=False)[0]
            for start in range(0, len(requests), together)
        ]
        return list(np.concatenate(parts))


def greyness(picture: np.ndarray) -> float:
    """Mean over a picture (H, W, 3) of the largest less the smallest channel, of 255: low in a pencil sketch."""
    return float((picture.max(-1).astype(int) - picture.min(-1)).mean())


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A small copy for the contact sheet."""
    return cv2.resize(picture, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)


def make_worker(bench: Bench, device: str) -> Worker:
    """Load every model onto `device`."""
    torch.set_num_threads(bench.threads)
    cv2.setNumThreads(1)
    location = find_base(str(bench.family))
    pair = find_embedder("base", location).load_pair(device)
    return Worker(
        bench,
        device,
        base=load_base(location, device=device),
        base_hash=location.content_hash,
        embedder=load_embedder(bench.efficientnet, device),
        pair=pair,
        namer=StyleNamer(pair.embed_texts, CLASS_NOUN),
        prototypes=torch.stack([cat.prototype for cat in bench.individuals]),
        whole_prototypes=torch.stack([cat.whole_prototype for cat in bench.individuals]),
    )


_worker: list[Worker] = []


def begin(bench: Bench, counter: Any) -> None:
    """What a worker process does first: take the next device in turn."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with counter.get_lock():
        index, counter.value = counter.value, counter.value + 1
    _worker.append(make_worker(bench, bench.devices[index % len(bench.devices)]))


def _end_with_parent() -> None:
    """A command that is killed leaves no worker behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def carry_out(task: Task) -> Outcome:
    """One job, in a running worker process; settings that cannot be trained are reported in its outcome."""
    try:
        return _worker[0].carry_out(task)
    except (LimnerError, torch.OutOfMemoryError) as error:
        return Outcome(task, {}, 0.0, 0.0, None, _worker[0].device, fault=str(error).splitlines()[0])
