"""The corridor: photos, adapters, renders, scores, report. One study from its file to its report.

Every stage leaves an artefact on disk and makes nothing again that is current, so a run that was stopped goes
on where it stopped, and a changed study redoes only what the change touches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from limner.artifacts import (
    AdapterFolder,
    ClassSet,
    PhotoSet,
    RenderSet,
    ScoreTable,
    canonical_json,
    machine_record,
    require_folder,
    require_space,
    sweep_unfinished,
    write_changed,
    write_json,
)
from limner.base import Base, load_base
from limner.base.devices import rendering_dtype
from limner.config import Study, Validation, VariantRun, stacks_of
from limner.memory import largest_stack, ranks_not_low
from limner.opening import LOCK, OpenStudy, expected_bytes, open_study, with_photos_kept
from limner.progress import SILENT, Progress
from limner.rendering.validation import validation_renderer
from limner.stages.adopt import adopt
from limner.stages.class_images import make_class_images
from limner.stages.context import Context
from limner.stages.control import control
from limner.stages.measure import measure
from limner.stages.prepare import prepare
from limner.stages.render import render
from limner.stages.report import report
from limner.stages.train import TrainingRequest, train
from limner.stages.validate import Scorer, scoring

Stage = Literal["prepare", "class-images", "train", "render", "control", "measure", "report"]
RUNS = Path("runs")


def run_study(
    source: Path,
    out: Path | None = None,
    *,
    until: Stage = "report",
    device: torch.device | None = None,
    memory: str = "",
    keep: Sequence[str] = (),
    strict: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Take a study through the corridor, as far as `until`; returns the report, or the run's folder before it.

    `memory` is "auto" or the GiB of GPU memory to do with; left out, the study and the run that has begun decide.
    `keep` names photos that are used whatever their size, beside those that the study names.
    """
    out, device = out or RUNS / source.stem, device or torch.device("cpu")
    opened = open_study(source, device=device, memory=memory, begun=out)
    run = Run(with_photos_kept(opened, keep), out, device, strict, progress)
    clock = StageClock()
    run.begin()
    for stage, make in run.corridor():
        result = make()
        clock.ends(stage)
        if stage == until:
            clock.tell(progress)
            return result if stage == "report" else run.out
    raise AssertionError(f"{until} is no stage")


class StageClock:
    """How long each stage took, in the order they ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def ends(self, stage: str) -> None:
        """What passed since the stage before it ended, or since the start, is this stage's."""
        now = time.monotonic()
        self.seconds[stage], self._last = now - self._last, now

    def tell(self, progress: Progress) -> None:
        """One line with the stages that took a second or more; none where all was current."""
        long = [f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items() if seconds >= 1]
        if long:
            progress.notice(f"took {sum(self.seconds.values()):.0f} s: {', '.join(long)}")


@dataclass
class Run:
    """One study on its way through the corridor; each artefact is made, or found current, when it is asked for."""

    opened: OpenStudy
    out: Path
    device: torch.device
    strict: bool = False
    progress: Progress = SILENT
    _bases: dict[torch.dtype | None, Base] = field(default_factory=dict)
    _scorers: dict[str, Scorer] = field(default_factory=dict)

    def corridor(self) -> Iterator[tuple[Stage, Callable[[], Any]]]:
        """The stages in their order."""
        yield "prepare", lambda: self.photos
        yield "class-images", lambda: self.class_set
        yield "train", lambda: self.adapters
        yield "render", lambda: self.renders
        yield "control", lambda: self.controls
        yield "measure", lambda: self.scores
        yield "report", lambda: self.report

    @property
    def study(self) -> Study:
        """The resolved settings."""
        return self.opened.study

    @property
    def runs(self) -> list[VariantRun]:
        """The adapters to be trained."""
        return self.opened.runs

    @property
    def training(self) -> Context:
        """What trains."""
        study = self.study
        return Context(study.subject, self.training_base, self.opened.base_hash, study.memory, self.progress)

    @property
    def rendering(self) -> Context:
        """What renders."""
        study = self.study
        return Context(study.subject, self.rendering_base, self.opened.rendering_hash, study.memory, self.progress)

    def begin(self) -> None:
        """See that the disk has room and the photos can be used, then write down what will be done."""
        require_folder(self.out)
        require_space(self.out, expected_bytes(self.opened))
        sweep_unfinished(self.out)
        photos = self.photos.content_hash  # first of all: without photos nothing is left behind
        write_changed(self.out / "study.toml", self.opened.source.read_bytes())
        not_low = ranks_not_low(self.study, self.opened.parts.shapes)
        for said in not_low.values():
            self.progress.notice(said)
        lock = {
            "study": self.study.model_dump(mode="json"),
            "origins": self.opened.origins,
            "source": str(self.opened.source.resolve()),
            "base": {"name": self.opened.base.name, "content_hash": self.opened.base.content_hash},
            "photos": {"content_hash": photos},
            "adapters": self.opened.imported_hashes,
            "consent": self.study.subject.consent,
            "ranks_not_low": not_low,
        }
        ran_on = {"device": str(self.device), "machine": machine_record().to_json()}
        if not _says(self.out / LOCK, lock):  # a run that changes nothing leaves the record of the first
            write_json(self.out / LOCK, lock | ran_on)

    @cached_property
    def photos(self) -> PhotoSet:
        """Crops of the subject."""
        photos = self.opened.folder / self.study.subject.photos
        return prepare(photos, self.out / "photos", self.study.prepare, strict=self.strict, progress=self.progress)

    @cached_property
    def class_set(self) -> ClassSet | None:
        """Class images, where a variant preserves the prior."""
        settings = self.study.class_images
        if settings.count == 0 or not any(variant.prior_preservation for variant in self.study.variants):
            return None
        if settings.folder:
            settings = settings.model_copy(update={"folder": self.opened.folder / settings.folder})
        return make_class_images(
            replace(self.rendering, base_hash=self.opened.base_hash),  # no checker runs: it would teach the model black
            settings,
            self.study.prepare.size_px,
            self.out / "class",
            shapes=self.photos.training_shapes,
        )

    @cached_property
    def given(self) -> dict[str, AdapterFolder]:
        """The adapters that were made elsewhere, by name."""
        opened = self.opened
        return {
            each.name: adopt(
                each, opened.imported[each.name], self.out / "adapters" / each.name, opened.base, opened.vae
            )
            for each in self.study.adapters
        }

    @cached_property
    def adapters(self) -> list[AdapterFolder]:
        """Those made elsewhere, then every variant, trained, in the study's order."""
        trained = dict(self.given)
        for runs in stacks_of(self.runs):
            adapters = train(
                [self._order(run) for run in runs],
                self.training,
                self.photos,
                self.class_set if runs[0].variant.prior_preservation else None,
                trained.get(runs[0].start_from),
                at_once=self._trained_at_once(runs),
            )
            trained |= {run.label: adapter for run, adapter in zip(runs, adapters, strict=True)}
        self._scorers.clear()  # and with them their models' memory
        chosen = {label: step.to_json() for label, folder in trained.items() if (step := folder.record.chosen)}
        if chosen:
            self._note_in_lock({"chosen": chosen})
        return [*self.given.values(), *(trained[run.label] for run in self.runs)]

    def _note_in_lock(self, more: dict[str, Any]) -> None:
        lock = json.loads((self.out / LOCK).read_text(encoding="utf-8"))
        if not _says(self.out / LOCK, more):
            write_json(self.out / LOCK, lock | more)

    def _trained_at_once(self, runs: list[VariantRun]) -> int:
        """How many variants of a stack a GPU has the memory to train together, as far as it can be foretold."""
        if self.device.type != "cuda" or len(runs) == 1:
            return len(runs)
        highest = max(runs, key=lambda run: run.rank or 0)
        return largest_stack(highest, len(runs), self.study, self.opened.parts, self.opened.limit_gib)

    def _order(self, run: VariantRun) -> TrainingRequest:
        work = self.out / "work" / run.label
        settings, slices = run.variant.validation, self.study.memory.vae_batch_size
        show = validation_renderer(self.training_base, self.study.subject, settings, work, vae_batch_size=slices)
        order = TrainingRequest(run, self.out / "adapters" / run.label, work)
        if show is None:
            return order
        if not settings.scored:
            return replace(order, validate=scoring(show, None))
        scorer = self._scorer(settings)
        return replace(order, validate=scoring(show, scorer), begin=scorer.begin, judged_by=scorer.judged_by)

    def _scorer(self, settings: Validation) -> Scorer:
        """What scores validations with these settings; variants with the same settings share it. One is kept."""
        name = settings.model_dump_json()
        if name not in self._scorers:
            self._scorers.clear()
            self._scorers[name] = Scorer(
                self.training_base,
                self.opened.base,
                self.study.subject,
                settings,
                self.study.measure,
                self.photos,
                self.out / "work" / ".embeddings",
                device=torch.device("cpu") if self.study.memory.offload else self.device,
                vae_batch_size=self.study.memory.vae_batch_size,
                progress=self.progress,
            )
        return self._scorers[name]

    @cached_property
    def renders(self) -> RenderSet:
        """Every prompt, seed and variant, and the untouched base."""
        return render(
            self.rendering,
            self.study.render,
            self.adapters,
            self.out / "renders",
        )

    @cached_property
    def controls(self) -> RenderSet | None:
        """Renders conditioned on the references' edges, where the study has references."""
        settings = self.study.control
        if settings is None or self.opened.controlnet is None:
            return None
        return control(
            self.rendering,
            self.opened.controlnet,
            settings,
            self.opened.folder,
            self.adapters,
            self.out / "control",
            self.study.prepare.size_px,
            render=self.study.render,
        )

    @cached_property
    def scores(self) -> ScoreTable:
        """Likeness and prompt fidelity of every picture."""
        settings = self.study.measure
        if settings.others:
            settings = settings.model_copy(update={"others": self.opened.folder / settings.others})
        return measure(
            self.out / "scores.json",
            self.photos,
            self.renders,
            self.controls,
            self.study.subject,
            settings,
            self.opened.base,
            self.device,
            class_set=self.class_set,
            progress=self.progress,
        )

    @cached_property
    def report(self) -> Path:
        """The comparison, written up."""
        return report(
            self.out,
            self.study,
            self.photos,
            self.adapters,
            self.renders,
            self.controls,
            self.scores,
            self.out / "report",
            progress=self.progress,
        )

    def training_base(self) -> Base:
        """The base to train, in fp32. For a GPU it waits on the CPU as its files have it, and only what works is there.

        Trained weights are kept in full precision whatever the step computes in, and so is the VAE that encodes.
        """
        if self.device.type != "cuda":
            return self._base(torch.float32)
        base = self._base(None, waiting=True)
        base.vae.to(torch.float32)
        return base

    def rendering_base(self) -> Base:
        """The base in the precision that pictures are rendered in."""
        dtype = rendering_dtype(self.study.render.precision, self.device)
        return self._base(dtype, waiting=self.study.memory.offload)

    def _base(self, dtype: torch.dtype | None, *, waiting: bool = False) -> Base:
        if dtype not in self._bases:
            settings = self.study.base
            self._bases[dtype] = load_base(
                self.opened.base,
                device=self.device,
                dtype=dtype,
                vae=self.opened.vae,
                clip_skip=settings.clip_skip,
                safety_checker=settings.safety_checker,
                waiting=waiting,
            )
        return self._bases[dtype]


def _says(path: Path, lock: dict[str, Any]) -> bool:
    """Whether the lock file at `path` says all of `lock`; where and when it was written does not matter."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        return canonical_json({name: there.get(name) for name in lock}) == canonical_json(lock)
    except (OSError, ValueError, AttributeError):
        return False
