"""One study's run: each artefact is made, or found current, when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from limner.artifacts import (
    AdapterFolder,
    ClassSet,
    PhotoSet,
    RenderSet,
    ScoreTable,
    canonical_json,
    machine_record,
    write_changed,
    write_record,
)
from limner.base import Base, load_base
from limner.base.devices import rendering_dtype
from limner.config import ClassImages, Measure, Study, Validation, VariantRun, stacks_of
from limner.errors import RecordError
from limner.memory import largest_stack, ranks_not_low
from limner.opening import LOCK, OpenStudy, read_lock
from limner.progress import SILENT, Progress
from limner.records import LockedBase, LockedPhotos, LockFile
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


@dataclass
class Run:
    """One study on its way through the corridor; each artefact is made, or found current, when it is asked for."""

    opened: OpenStudy
    out: Path
    device: torch.device
    strict: bool = False
    progress: Progress = SILENT
    current: frozenset[str] = frozenset()
    """Names of tasks whose results are known to be current: they are opened, without being looked at again."""
    _trained: dict[str, AdapterFolder] = field(default_factory=dict)
    _bases: dict[torch.dtype | None, Base] = field(default_factory=dict)
    _scorers: dict[str, Scorer] = field(default_factory=dict)

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

    @property
    def class_rendering(self) -> Context:
        """What renders class images: no checker runs, whose black pictures would teach the model black."""
        return replace(self.rendering, base_hash=self.opened.base_hash)

    def begin(self) -> None:
        """Write down what will be done, once the photos can be used: without them nothing is left behind."""
        photos = self.photos.content_hash
        write_changed(self.out / "study.toml", self.opened.source.read_bytes())
        not_low = ranks_not_low(self.study, self.opened.parts.shapes)
        for said in not_low.values():
            self.progress.notice(said)
        opened = self.opened
        lock = LockFile(
            study=self.study.model_dump(mode="json"),
            origins=opened.origins,
            source=str(opened.source.resolve()),
            base=LockedBase(name=opened.base.name, content_hash=opened.base.content_hash),
            photos=LockedPhotos(content_hash=photos),
            adapters=opened.imported_hashes,
            consent=self.study.subject.consent,
            ranks_not_low=not_low,
        )
        if not _says(self.out, lock):  # a run that changes nothing leaves the record of the first
            ran_on = {"device": str(self.device), "machine": machine_record()}
            write_record(self.out / LOCK, lock.model_copy(update=ran_on))

    @cached_property
    def photos(self) -> PhotoSet:
        """Crops of the subject."""
        if "prepare" in self.current and not self.strict:
            return PhotoSet(self.out / "photos")
        photos = self.opened.folder / self.study.subject.photos
        return prepare(photos, self.out / "photos", self.study.prepare, strict=self.strict, progress=self.progress)

    @cached_property
    def class_set(self) -> ClassSet | None:
        """Class images, where a variant preserves the prior."""
        settings = self.study.class_images
        if settings.count == 0 or not any(variant.prior_preservation for variant in self.study.variants):
            return None
        if "class-images" in self.current:
            return ClassSet(self.out / "class")
        return make_class_images(
            self.class_rendering,
            self.class_settings,
            self.study.prepare.size_px,
            self.out / "class",
            shapes=self.photos.training_shapes,
        )

    @property
    def class_settings(self) -> ClassImages:
        """The settings of class images, with where the user's own lie."""
        settings = self.study.class_images
        if settings.folder is None:
            return settings
        return settings.model_copy(update={"folder": self.opened.folder / settings.folder})

    @property
    def measure_settings(self) -> Measure:
        """The settings of measuring, with where the pictures of others lie."""
        settings = self.study.measure
        return (
            settings.model_copy(update={"others": self.opened.folder / settings.others})
            if settings.others
            else settings
        )

    @cached_property
    def imported(self) -> dict[str, AdapterFolder]:
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
        for runs in stacks_of(self.runs):
            self.trained(runs)
        self._scorers.clear()  # and with them their models' memory
        if chosen := {label: step for label, folder in self._trained.items() if (step := folder.record.chosen)}:
            lock = read_lock(self.out)
            if lock.chosen != chosen:
                write_record(self.out / LOCK, lock.model_copy(update={"chosen": chosen}))
        return [*self.imported.values(), *(self._trained[run.label] for run in self.runs)]

    def trained(self, runs: list[VariantRun]) -> list[AdapterFolder]:
        """The adapters of variants that train in one pass."""
        wanted = [run for run in runs if run.label not in self._trained and f"train {run.label}" not in self.current]
        if wanted:
            adapters = train(
                [self.request(run) for run in wanted],
                self.training,
                self.photos,
                self.class_set if wanted[0].variant.prior_preservation else None,
                self.start_of(wanted[0]),
                at_once=self._trained_at_once(wanted),
            )
            self._trained |= {run.label: adapter for run, adapter in zip(wanted, adapters, strict=True)}
        for run in runs:
            self._trained.setdefault(run.label, AdapterFolder(self.out / "adapters" / run.label))
        return [self._trained[run.label] for run in runs]

    def start_of(self, run: VariantRun) -> AdapterFolder | None:
        """What a variant starts from: a stack that comes before it, or an adapter made elsewhere."""
        if not run.start_from:
            return None
        return self.imported.get(run.start_from) or AdapterFolder(self.out / "adapters" / run.start_from)

    def _trained_at_once(self, runs: list[VariantRun]) -> int:
        """How many variants of a stack a GPU has the memory to train together, as far as it can be predicted."""
        if self.device.type != "cuda" or len(runs) == 1:
            return len(runs)
        largest = max(runs, key=lambda run: run.method.size(run))
        return largest_stack(largest, len(runs), self.study, self.opened.parts, self.opened.limit_gib)

    def request(self, run: VariantRun) -> TrainingRequest:
        """What the train stage is asked for, with what validates while it trains."""
        work = self.out / "work" / run.label
        settings, slices = run.variant.validation, self.study.memory.vae_batch_size
        show = validation_renderer(self.training_base, self.study.subject, settings, work, vae_batch_size=slices)
        request = TrainingRequest(run, self.out / "adapters" / run.label, work)
        if show is None:
            return request
        if not settings.scored:
            return replace(request, validate=scoring(show, None))
        scorer = self._scorer(settings)
        return replace(request, validate=scoring(show, scorer), begin=scorer.begin, judged_by=scorer.judged_by)

    def judged_by(self, run: VariantRun, photos: PhotoSet) -> Mapping[str, Any] | None:
        """What the scores of a variant's validations depend on, where they are scored; no model is loaded."""
        settings = run.variant.validation
        if not settings.scored:
            return None
        models = (self.training_base, self.opened.base, self.study.subject, settings, self.study.measure)
        return Scorer(*models, photos, self.out / "work" / ".embeddings").judged_by

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
        if "render" in self.current:
            return RenderSet(self.out / "renders")
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
        if "control" in self.current:
            return RenderSet(self.out / "control")
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
        if "measure" in self.current:
            return ScoreTable(self.out / "scores.json")
        return measure(
            self.out / "scores.json",
            self.photos,
            self.renders,
            self.controls,
            self.study.subject,
            self.measure_settings,
            self.opened.base,
            self.device,
            class_set=self.class_set,
            progress=self.progress,
        )

    @cached_property
    def report(self) -> Path:
        """The comparison, written up."""
        if "report" in self.current:
            return self.out / "report" / "index.html"
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


def _says(run: Path, lock: LockFile) -> bool:
    """Whether the lock file of a run says all of `lock`; where and when it was written does not matter."""
    try:
        there = read_lock(run).to_json()
    except RecordError:
        return False
    said = lock.to_json()
    return canonical_json({name: there.get(name) for name in said}) == canonical_json(said)
