"""What a run has to do, before it does it: its tasks with their keys, what they read and leave, and what they cost.

No weights are loaded. A task whose inputs are not made yet has no key so far: it comes after the tasks that make them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from limner.artifacts import (
    AdapterFolder,
    ClassSet,
    PhotoSet,
    RenderSet,
    ScoreTable,
    Specification,
    is_current,
    scores_are_current,
)
from limner.config import VariantRun, stacks_of
from limner.measuring import Picture
from limner.memory import predict
from limner.rendering import columns_of
from limner.rendering.controlnet import controlnet_hash
from limner.reporting import ReportInputs
from limner.running.run import Run
from limner.running.timings import ADDED, HERE, THAWED, Timings, device_name, usual_seconds, work_key
from limner.stages.adopt import specify_adopt
from limner.stages.class_images import count_missing_class_images, specify_class_images
from limner.stages.control import read_references, specify_control
from limner.stages.measure.others import others_of
from limner.stages.measure.stage import find_models, specify_measure
from limner.stages.prepare import count_photos, specify_photos
from limner.stages.render import count_missing_renders, specify_render
from limner.stages.report import specify_report
from limner.stages.train import specify_train

Stage = Literal["prepare", "class-images", "train", "render", "control", "measure", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NO_PACE = {"name", "steps", "learning_rate", "training_seeds", "validation", "start_from", "log_to"}


class Task(BaseModel):
    """One result of a plan."""

    model_config = ConfigDict(frozen=True)

    name: str
    stage: Stage
    what: str
    key: str | None
    """None where it follows from what is not made yet."""
    current: bool
    after: tuple[str, ...] = ()
    """Tasks that are not current and that this one has to wait for."""
    inputs: tuple[str, ...] = ()
    """Tasks whose results it reads."""
    outputs: tuple[str, ...]
    """Paths in the run's folder."""
    group: str
    """Tasks of one group are done in one pass on one device."""
    units: int
    unit: str
    units_left: int
    """Those that are not there yet: of a grid that was left half made the missing pictures."""
    expected_seconds: float | None = None
    """None where nothing is known, and for what is current 0."""
    seconds_from: str = ""
    """"this machine", "documented rates" or "estimated"; empty where nothing is expected."""
    gib: float | None = None
    """What torch will reserve on a GPU at the peak."""
    work: str = ""
    """Names this kind of work among what this machine did before."""


class Plan(BaseModel):
    """All tasks of a run, in the order in which they are done."""

    model_config = ConfigDict(frozen=True)

    run: Path
    device: str
    tasks: tuple[Task, ...]

    @property
    def to_do(self) -> list[Task]:
        """Those that are not current."""
        return [task for task in self.tasks if not task.current]

    @property
    def expected_seconds(self) -> float | None:
        """Of all that is to do; None where a task's is not known."""
        seconds = [task.expected_seconds for task in self.to_do]
        return None if None in seconds else sum(each for each in seconds if each is not None)


def make_plan(run: Run, until: Stage = "report", timings: Timings | None = None) -> Plan:
    """The tasks as far as the stage `until`. Raises PhotoError and its kind for photos that cannot be planned with."""
    planner = Planner(run, timings or Timings())
    for stage in STAGES[: STAGES.index(until) + 1]:
        getattr(planner, stage.replace("-", "_"))()
    return Plan(run=run.out, device=str(run.device), tasks=tuple(planner.tasks))


class Planner:
    """Adds the tasks of each stage; what is current is opened, and the next stages' keys follow from it."""

    def __init__(self, run: Run, timings: Timings) -> None:
        self.run, self.study, self.opened = run, run.study, run.opened
        self.timings = timings.read()
        self.tasks: list[Task] = []
        on_gpu = run.device.type == "cuda"
        self.peaks = {peak.name: peak.gib for peak in predict(self.study, self.opened.parts)} if on_gpu else {}

    def is_current(self, name: str) -> bool:
        """Whether a planned task's result lies there whole; a task that is not in the plan has nothing to wait for."""
        return all(task.current for task in self.tasks if task.name == name)

    def prepare(self) -> None:
        """The photo set."""
        folder = self.opened.folder / self.study.subject.photos
        count = count_photos(folder)
        self._add("prepare", f"{count} photos", "photos", (), lambda: specify_photos(folder, self.study.prepare), count,
                  unit="photo")  # fmt: skip

    def class_images(self) -> None:
        """Class images, where a variant preserves the prior."""
        settings = self.study.class_images
        if settings.count == 0 or not any(variant.prior_preservation for variant in self.study.variants):
            return
        self._add("class-images", f"{settings.count} pictures", "class", ("prepare",), self._specify_class_images,
                  settings.count, pace=[settings.steps, settings.sampler, settings.folder is None])  # fmt: skip

    def _specify_class_images(self) -> Specification:
        run, size_px, shapes = self.run, self.study.prepare.size_px, self._photos.training_shapes
        return specify_class_images(self.opened.base_hash, self.study.subject, run.class_settings, size_px, shapes)

    def train(self) -> None:
        """Adapters made elsewhere, then every variant; those of a stack are one group."""
        for each in self.study.adapters:
            self._add("train", f"{each.name}: {each.file.name}", f"adapters/{each.name}", (),
                      lambda each=each: specify_adopt(each, self.opened.imported[each.name], self.opened.base),
                      1, name=f"train {each.name}", unit="file")  # fmt: skip
        for runs in stacks_of(self.opened.runs):
            for one in runs:
                self._add_variant(one, f"train {', '.join(run.label for run in runs)}")

    def _add_variant(self, one: VariantRun, group: str) -> None:
        variant = one.variant
        inputs = ["prepare"] + (["class-images"] if variant.prior_preservation else [])
        inputs += [f"train {one.start_from}"] if one.start_from else []
        pace = [
            variant.model_dump(mode="json", exclude=NO_PACE | one.method.own_settings),
            self.study.prepare.size_px,
            group.count(","),
        ]
        self._add("train", f"{one.label}: {variant.steps} steps", f"adapters/{one.label}", tuple(inputs),
                  lambda: self._specify_train(one), variant.steps, name=f"train {one.label}", group=group, pace=pace,
                  unit="step", kind=THAWED if one.method.thaws else ADDED)  # fmt: skip

    def _specify_train(self, one: VariantRun) -> Specification:
        of_class = ClassSet(self.run.out / "class") if one.variant.prior_preservation else None
        start = AdapterFolder(self.run.out / "adapters" / one.start_from) if one.start_from else None
        judged_by = self.run.judged_by(one, self._photos)
        return specify_train(
            one, self.opened.base_hash, self.study.subject, self._photos, of_class, start, judged_by=judged_by
        )

    def render(self) -> None:
        """The grid of every column, prompt, seed and image."""
        settings = self.study.render
        stackable = [one.method.is_stackable for one in self.opened.runs]
        stackable += [not each.merged for each in self.study.adapters]
        columns = 1 + sum(len(set(settings.lora_scales)) if each else 1 for each in stackable)
        count = columns * len(settings.prompts) * len(set(settings.seeds))
        pace = [settings.steps, settings.sampler, settings.size, settings.batch_size, settings.precision]
        self._add("render", f"{count * settings.images_per_seed} pictures", "renders", self._adapter_tasks,
                  self._specify_render, count * settings.images_per_seed, pace=pace)  # fmt: skip

    def _specify_render(self) -> Specification:
        columns = columns_of(self._adapters, self.study.render.lora_scales)
        return specify_render(self.opened.rendering_hash, self.study.subject, self.study.render, columns)

    def control(self) -> None:
        """Renders through ControlNet, where the study has references."""
        settings = self.study.control
        if settings is None or self.opened.controlnet is None:
            return
        count = (1 + len(self._adapter_tasks)) * len(settings.references) * len(set(settings.seeds))
        count *= len(set(settings.conditioning_scale))
        self._add("control", f"{count} pictures", "control", self._adapter_tasks, self._specify_control, count,
                  kind="conditioned picture",
                  pace=[settings.steps, settings.sampler, self.study.render.precision])  # fmt: skip

    def _specify_control(self) -> Specification:
        settings, controlnet = self.study.control, self.opened.controlnet
        assert settings is not None  # as `control` has seen
        assert controlnet is not None
        size_px = self.study.prepare.size_px
        references = read_references(settings, self.opened.folder, size_px)
        return specify_control(
            self.opened.rendering_hash, controlnet_hash(controlnet), self.study.subject, settings, references,
            columns_of(self._adapters), self.study.render.precision,
        )  # fmt: skip

    def measure(self) -> None:
        """The scores of all pictures."""
        count = sum(task.units for task in self.tasks if task.stage in ("render", "control"))
        pace = [self.study.measure.model_dump(mode="json", exclude={"others"})]
        self._add("measure", f"{count} pictures", "scores.json", ("prepare", "class-images", "render", "control"),
                  self._specify_measure, count, unit="score", pace=pace)  # fmt: skip

    def _specify_measure(self) -> Specification:
        settings, grids = self.run.measure_settings, [grid for grid in (self._renders, self._controls) if grid]
        pictures = [Picture(cell, grid.path(cell)) for grid in grids for cell in grid.cells if not cell.flagged]
        has_class = any(task.stage == "class-images" for task in self.tasks)
        others = others_of(settings.others, ClassSet(self.run.out / "class") if has_class else None, pictures)
        models = find_models(settings, self.opened.base)
        return specify_measure(
            self._photos, self._renders, self._controls, self.study.subject, settings, models, others
        )

    def report(self) -> None:
        """The page."""
        self._add("report", "the comparison", "report", tuple(task.name for task in self.tasks), self._specify_report,
                  1, unit="report")  # fmt: skip

    def _specify_report(self) -> Specification:
        scores = ScoreTable(self.run.out / "scores.json")
        return specify_report(
            ReportInputs(self.run.out, self.study, self._photos, self._adapters, self._renders, self._controls, scores)
        )

    @property
    def _photos(self) -> PhotoSet:
        return PhotoSet(self.run.out / "photos")

    @property
    def _adapter_tasks(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks if task.stage == "train")

    @property
    def _adapters(self) -> list[AdapterFolder]:
        labels = [*(each.name for each in self.study.adapters), *(one.label for one in self.opened.runs)]
        return [AdapterFolder(self.run.out / "adapters" / label) for label in labels]

    @property
    def _renders(self) -> RenderSet:
        return RenderSet(self.run.out / "renders")

    @property
    def _controls(self) -> RenderSet | None:
        return RenderSet(self.run.out / "control") if self.opened.controlnet else None

    def _add(
        self,
        stage: Stage,
        what: str,
        output: str,
        inputs: tuple[str, ...],
        specify: Callable[[], Specification],
        units: int,
        *,
        name: str = "",
        group: str = "",
        unit: str = "picture",
        kind: str = "",
        pace: Sequence[object] = (),
    ) -> None:
        name, after = name or stage, tuple(each for each in inputs if not self.is_current(each))
        key = None if after else specify().key
        current = key is not None and self._is_output_current(output, key)
        work = work_key(device_name(self.run.device), self.opened.base.content_hash, stage, pace)
        left = 0 if current else units if key is None else self._units_left(stage, units)
        seconds, source = (0.0, "") if current else self._seconds(work, kind or unit, left)
        self.tasks.append(
            Task(
                name=name, stage=stage, what=what, key=key, current=current, after=after, outputs=(output,),
                inputs=tuple(each for each in inputs if any(task.name == each for task in self.tasks)),
                group=group or name, units=units, unit=unit, units_left=left, expected_seconds=seconds,
                seconds_from=source, gib=self.peaks.get(name), work=work,
            )
        )  # fmt: skip

    def _units_left(self, stage: Stage, units: int) -> int:
        """How many units of a task are missing: pictures are counted by the keys that they carry."""
        run, study = self.run, self.study
        if stage == "class-images":
            shapes, size_px = self._photos.training_shapes, study.prepare.size_px
            return count_missing_class_images(
                run.class_rendering, run.class_settings, size_px, shapes, run.out / "class"
            )
        if stage == "render":
            return count_missing_renders(run.rendering, study.render, self._adapters, run.out / "renders")
        return units

    def _is_output_current(self, output: str, key: str) -> bool:
        path = self.run.out / output
        return scores_are_current(path, key) if path.suffix == ".json" else is_current(path, key)

    def _seconds(self, work: str, kind: str, units: int) -> tuple[float | None, str]:
        if work in self.timings:
            return self.timings[work] * units, HERE
        parameters, pixels = self.opened.parts.shapes.count("unet"), self.study.prepare.size_px**2
        usual = usual_seconds(self.run.device.type, kind, parameters, pixels)
        return (None, "") if usual is None else (usual[0] * units, usual[1])
