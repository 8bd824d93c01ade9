"""The corridor: photos, adapters, renders, scores, report. One study from its file to its report.

Every stage leaves an artefact on disk and makes nothing again that is current, so a run that was stopped goes
on where it stopped, and a changed study redoes only what the change touches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
    hash_bytes,
    machine_record,
    require_folder,
    require_space,
    sweep_unfinished,
    write_changed,
    write_json,
)
from limner.base import Base, BaseLocation, find_base, load_base
from limner.base.devices import rendering_dtype
from limner.base.find import SAFETY_PARTS, find_controlnet, find_vae, hash_of_part
from limner.config import (
    Control,
    FullVariant,
    Study,
    VariantRun,
    expand_variants,
    file_faults,
    read_toml,
    resolve_study,
    setting_origins,
)
from limner.errors import BaseError, InputError, StudyError
from limner.progress import SILENT, Progress
from limner.rendering.validation import validation_renderer
from limner.stages.class_images import make_class_images
from limner.stages.control import control
from limner.stages.measure import measure
from limner.stages.prepare import prepare
from limner.stages.render import render
from limner.stages.report import report
from limner.stages.train import train
from limner.training import require_optimizer, require_trackers

Stage = Literal["prepare", "class-images", "train", "render", "control", "measure", "report"]
RUNS = Path("runs")
LOCK = "study.lock.json"


@dataclass(frozen=True)
class OpenStudy:
    """A study that was read and checked: settings, base and files are known to be there; no weight is loaded."""

    study: Study
    source: Path
    base: BaseLocation
    origins: dict[str, str]

    @property
    def folder(self) -> Path:
        """What the study's paths are relative to."""
        return self.source.parent


def open_study(source: Path) -> OpenStudy:
    """Read and check a study file. Raises StudyError with every fault at once, before any weight is loaded."""
    raw = read_toml(source)
    faults: list[str] = []
    try:
        base = find_base(
            str(raw.get("base", {}).get("model", "miniature")), str(raw.get("base", {}).get("revision", ""))
        )
        defaults = base.defaults
    except (BaseError, AttributeError) as error:
        faults, base, defaults = [str(error)], None, {}
    try:
        study = resolve_study(raw, defaults, str(source))
    except StudyError as error:
        raise StudyError(str(source), [*faults, *error.faults]) from None
    faults += file_faults(study, source.parent)
    if study.control and study.control.references and base is not None:
        faults += _controlnet_faults(study.control, base)
    faults += [*_vae_faults(study.base.vae), *_variant_faults(study)]
    if faults or base is None:
        raise StudyError(str(source), faults)
    return OpenStudy(study, source, base, setting_origins(study, raw, defaults))


def run_study(
    source: Path,
    out: Path | None = None,
    *,
    until: Stage = "report",
    device: torch.device | None = None,
    strict: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Take a study through the corridor, as far as `until`; returns the report, or the run's folder before it."""
    opened = open_study(source)
    run = Run(opened, out or RUNS / source.stem, device or torch.device("cpu"), strict, progress)
    run.begin()
    for stage, make in run.corridor():
        result = make()
        if stage == until:
            return result if stage == "report" else run.out
    raise AssertionError(f"{until} is no stage")


@dataclass
class Run:
    """One study on its way through the corridor; each artefact is made, or found current, when it is asked for."""

    opened: OpenStudy
    out: Path
    device: torch.device
    strict: bool = False
    progress: Progress = SILENT
    _bases: dict[torch.dtype, Base] = field(default_factory=dict)

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

    @cached_property
    def runs(self) -> list[VariantRun]:
        """The adapters to be trained."""
        return expand_variants(self.study.variants)

    def begin(self) -> None:
        """See that the disk has room and the photos can be used, then write down what will be done."""
        require_folder(self.out)
        require_space(self.out, expected_bytes(self.opened, self.runs))
        sweep_unfinished(self.out)
        photos = self.photos.content_hash  # first of all: without photos nothing is left behind
        write_changed(self.out / "study.toml", self.opened.source.read_bytes())
        lock = {
            "study": self.study.model_dump(mode="json"),
            "origins": self.opened.origins,
            "source": str(self.opened.source.resolve()),
            "base": {"name": self.opened.base.name, "content_hash": self.opened.base.content_hash},
            "photos": {"content_hash": photos},
            "consent": self.study.subject.consent,
        }
        ran_on = {"device": str(self.device), "machine": machine_record()}
        if not _says(self.out / LOCK, lock):  # a run that changes nothing leaves the record of the first
            write_json(self.out / LOCK, lock | ran_on)

    @cached_property
    def photos(self) -> PhotoSet:
        """Square crops of the subject."""
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
            self.rendering_base,
            self.base_hash,
            self.study.subject,
            settings,
            self.study.prepare.size_px,
            self.out / "class",
            progress=self.progress,
        )

    @cached_property
    def adapters(self) -> list[AdapterFolder]:
        """Every variant, trained, in the study's order."""
        trained: dict[str, AdapterFolder] = {}
        for run in self.runs:
            work = self.out / "work" / run.label
            trained[run.label] = train(
                run,
                self.training_base,
                self.base_hash,
                self.study.subject,
                self.photos,
                self.class_set if run.variant.prior_preservation else None,
                trained.get(run.start_from),
                self.out / "adapters" / run.label,
                work,
                validate=validation_renderer(self.training_base, self.study.subject, run.variant.validation, work),
                progress=self.progress,
            )
        return list(trained.values())

    @cached_property
    def renders(self) -> RenderSet:
        """Every prompt, seed and variant, and the untouched base."""
        return render(
            self.rendering_base,
            self.rendering_hash,
            self.study.subject,
            self.study.render,
            self.adapters,
            self.out / "renders",
            progress=self.progress,
        )

    @cached_property
    def controls(self) -> RenderSet | None:
        """Renders conditioned on the references' edges, where the study has references."""
        settings = self.study.control
        if settings is None or not settings.references:
            return None
        return control(
            self.rendering_base,
            self.rendering_hash,
            find_controlnet(settings.model, self.opened.base),
            self.study.subject,
            settings,
            self.opened.folder,
            self.adapters,
            self.out / "control",
            self.study.prepare.size_px,
            precision=self.study.render.precision,
            progress=self.progress,
        )

    @cached_property
    def scores(self) -> ScoreTable:
        """Likeness and prompt fidelity of every picture."""
        return measure(
            self.out / "scores.json",
            self.photos,
            self.renders,
            self.controls,
            self.study.subject,
            self.study.measure,
            self.opened.base,
            self.device,
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

    @cached_property
    def base_hash(self) -> str:
        """What names the base in the keys of class images and trainings."""
        return base_identity(self.opened)

    @cached_property
    def rendering_hash(self) -> str:
        """What names the base in the keys of renders: a safety checker may black them."""
        return base_identity(self.opened, with_safety_checker=True)

    def training_base(self) -> Base:
        """The base in fp32: trained weights are kept in full precision whatever the step computes in."""
        return self._base(torch.float32)

    def rendering_base(self) -> Base:
        """The base in the precision that pictures are rendered in."""
        return self._base(rendering_dtype(self.study.render.precision, self.device))

    def _base(self, dtype: torch.dtype) -> Base:
        if dtype not in self._bases:
            settings = self.study.base
            self._bases[dtype] = load_base(
                self.opened.base,
                device=self.device,
                dtype=dtype,
                vae=settings.vae,
                clip_skip=settings.clip_skip,
                safety_checker=settings.safety_checker,
            )
        return self._bases[dtype]


def base_identity(opened: OpenStudy, *, with_safety_checker: bool = False) -> str:
    """SHA-256 that names the base as the study uses it: the content of all its parts, and the layers left out."""
    settings, base = opened.study.base, opened.base
    parts: dict[str, Any] = {}
    if settings.vae:
        parts["vae"] = hash_of_part(find_vae(settings.vae))
    if settings.clip_skip:
        parts["clip_skip"] = settings.clip_skip
    if with_safety_checker and settings.safety_checker and base.has_safety_checker:
        parts["safety_checker"] = [hash_of_part(base.path / part) for part in SAFETY_PARTS]
    return hash_bytes(canonical_json([base.content_hash, parts])) if parts else base.content_hash


def expected_bytes(opened: OpenStudy, runs: list[VariantRun]) -> int:
    """About how much disk a run needs: adapters, two resumable states for the largest, and the pictures."""
    weights = sum(file.stat().st_size for part in ("unet", "text_encoder") for file in opened.base.weight_files(part))
    full_runs = sum(isinstance(run.variant, FullVariant) for run in runs)
    resumable = 2 * 6 * weights if full_runs else weights  # fp32 weights and two moments of fp16 files, twice
    study = opened.study
    pixels = study.render.size[0] * study.render.size[1]
    pictures = len(study.render.prompts) * len(study.render.seeds) * study.render.images_per_seed * (len(runs) + 1)
    return full_runs * 2 * weights + resumable + (pictures + study.class_images.count) * 2 * pixels


def _controlnet_faults(settings: Control, base: BaseLocation) -> list[str]:
    try:
        find_controlnet(settings.model, base)
    except BaseError as error:
        return [f"control.model: {error}"]
    return []


def _vae_faults(vae: str) -> list[str]:
    try:
        if vae:
            find_vae(vae)
    except BaseError as error:
        return [str(error)]
    return []


def _variant_faults(study: Study) -> Iterator[str]:
    for run in expand_variants(study.variants):
        try:
            require_optimizer(run.variant.optimizer)
            require_trackers(run.variant.log_to)
        except InputError as error:
            yield f"{run.label}: {error}"
        if run.variant.prior_preservation and study.class_images.count == 0:
            yield f"{run.label}: prior_preservation = true needs class images, and class_images.count is 0; raise it"


def _says(path: Path, lock: dict[str, Any]) -> bool:
    """Whether the lock file at `path` says all of `lock`; where and when it was written does not matter."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        return canonical_json({name: there.get(name) for name in lock}) == canonical_json(lock)
    except (OSError, ValueError, AttributeError):
        return False
