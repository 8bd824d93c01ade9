"""A study with every section, and the key of each of its stages, without a model loaded or anything made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any, get_args

from PIL import Image

from limner.base import BaseLocation, find_base
from limner.base.find import find_controlnet, find_vae
from limner.config import Section, Study, expand_variants, with_settings
from limner.methods import all_methods
from limner.opening import OpenStudy
from limner.photos import list_photos, read_manual_crops
from limner.rendering import columns_of
from limner.rendering.controlnet import controlnet_hash
from limner.settings import VariantSettings
from limner.settings.optimizer import OptimizerTable, all_optimizers
from limner.stages.adopt import specify_adopt
from limner.stages.class_images import specify_class_images
from limner.stages.control import read_references, specify_control
from limner.stages.measure.others import others_of
from limner.stages.measure.stage import find_models, specify_measure
from limner.stages.prepare import specify_prepare
from limner.stages.render import specify_render
from limner.stages.report import specify_report
from limner.stages.train import specify_train
from limner.stages.validate import Scorer
from tests.drawn import draw_subject, write_photos
from tests.training.sets import write_class_set, write_photo_set

CHOOSING = {"every_steps": 2, "keep": "best", "prompts": ["a photo of {subject}", "a sketch of {subject}"]}
SHARED = {"prior_preservation": True, "text_encoder": True, "validation": CHOOSING}


class Workshop:
    """Small files for every setting that names one, twice, so that each can be changed; and what stages start from."""

    def __init__(self, folder: Path, tiny_base: Path) -> None:
        self.folder = folder
        self.bases: dict[str, BaseLocation] = {}
        for name, seed in (("photos", 0), ("other photos", 20)):
            write_photos(folder / name) if seed == 0 else _draw(folder / name, 2, seed)
        _draw(folder / "others", 7, 30)
        _draw(folder / "class pictures", 3, 40)
        for name, seed in (("reference", 50), ("another", 51)):
            reference = Image.new("RGB", (80, 64))  # mostly two-valued, so that it may be given as edges too
            reference.paste("white", (4, 4, 60, 6))
            reference.paste(draw_subject((22, 22), seed), (30, 20))
            reference.save(folder / f"{name}.png")
        for name in ("base", "another base"):
            shutil.copytree(tiny_base, folder / name)
            for part in ("safety_checker", "feature_extractor"):
                (folder / name / part).mkdir()
                (folder / name / part / "config.json").write_text("{}")
        _change(folder / "another base" / "scheduler" / "scheduler_config.json")
        _change(folder / "another base" / "controlnet" / "config.json")
        for name in ("given", "another"):
            (folder / f"{name}.safetensors").write_text(name)  # only its content's hash is read here
        self.photo_set = write_photo_set(folder / "photo set")
        self.class_set = write_class_set(folder / "class set")
        self.study = self._study()

    def _study(self) -> Study:
        full = {"method": "full", "optimizer": "adamw8bit", **SHARED}
        variants = [full, {"method": "lora", "rank": 8, **SHARED}]
        return Study.model_validate(
            {
                "subject": {"photos": "photos", "class_noun": "cat"},
                "base": {"model": str(self.folder / "base")},
                "adapters": [{"name": "given", "file": "given.safetensors", "merged": True}],
                "variants": variants,
                "render": {"prompts": [{"name": "photo", "prompt": "a photo of {subject}"}]},
                "control": {"model": "base", "references": [{"name": "drawn", "image": "reference.png"}]},
                "measure": {"likeness": ["base"], "prompt_fidelity": "base"},
            }
        )

    def keys(self, study: Study) -> dict[str, Any]:
        """The key of every stage; of those that make several things, all of theirs."""
        base = self._base(study.base.model)
        vae = find_vae(study.base.vae) if study.base.vae else None
        opened = OpenStudy(study, self.folder / "study.toml", base, {}, vae)
        rendering_hash = opened.rendering_hash
        columns = columns_of([], study.render.lora_scales)
        return {
            "prepare": self._prepare(study),
            "class-images": self._class_images(study, opened.base_hash),
            "adopt": [specify_adopt(each, self.folder / each.file, base).key for each in study.adapters],
            "train": self._train(study, opened),
            "render": specify_render(rendering_hash, study.subject, study.render, columns).key,
            "control": self._control(study, opened, rendering_hash, columns),
            "measure": self._measure(study, opened),
            "report": self._report(study),
        }

    def _base(self, model: str) -> BaseLocation:
        if model not in self.bases:  # read once: it takes longer than all the rest
            self.bases[model] = find_base(model)
        return self.bases[model]

    def _prepare(self, study: Study) -> str:
        listing = list_photos(self.folder / study.subject.photos)
        wishes = read_manual_crops(self.folder / study.subject.photos, [photo.name for photo in listing.photos])
        return specify_prepare(listing, study.prepare, wishes).key

    def _class_images(self, study: Study, base_hash: str) -> str:
        settings = study.class_images
        if settings.folder is not None:
            settings = settings.model_copy(update={"folder": self.folder / settings.folder})
        return specify_class_images(base_hash, study.subject, settings, study.prepare.size_px).key

    def _train(self, study: Study, opened: OpenStudy) -> list[str]:
        starts = {"": None, "given": SimpleNamespace(content_hash="of the start")}
        keys = []
        for run in expand_variants(study.variants):
            variant = run.variant
            scorer = Scorer(
                _nothing, opened.base, study.subject, variant.validation, study.measure, self.photo_set, self.folder
            )
            of_class = self.class_set if variant.prior_preservation else None
            start, base_hash = starts[run.start_from], opened.base_hash
            judged_by = scorer.judged_by
            specification = specify_train(
                run, base_hash, study.subject, self.photo_set, of_class, start, judged_by=judged_by
            )
            keys.append(specification.key)
        return keys

    def _control(self, study: Study, opened: OpenStudy, base_hash: str, columns: Any) -> str:
        settings = study.control
        assert settings is not None
        references = read_references(settings, self.folder, 64)
        model = controlnet_hash(find_controlnet(settings.model, opened.base))
        return specify_control(
            base_hash, model, study.subject, settings, references, columns, study.render.precision
        ).key

    def _measure(self, study: Study, opened: OpenStudy) -> str:
        settings = study.measure
        others = others_of(settings.others and self.folder / settings.others, self.class_set, [])
        grid = SimpleNamespace(content_hash="of renders", cells=[])
        models = find_models(settings, opened.base)
        return specify_measure(self.photo_set, grid, None, study.subject, settings, models, others).key

    def _report(self, study: Study) -> str:
        scores = SimpleNamespace(path=self.folder / "reference.png")  # any file
        return specify_report(SimpleNamespace(study=study, artifacts=(), run=self.folder, scores=scores)).key


def leaves(section: Section, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Section, str]]:
    """Every setting that holds no others: its dotted path, the table it stands in, its name there."""
    for name in type(section).model_fields:
        value, path = getattr(section, name), (*above, name)
        if isinstance(value, Section):
            yield from leaves(value, path)
        elif isinstance(value, list) and value and isinstance(value[0], Section):
            for index, each in enumerate(value):
                yield from leaves(each, (*path, str(index)))
        else:
            yield ".".join(path), section, name


def sections_of(annotation: Any) -> set[type[Section]]:
    """Every kind of table that a setting so annotated may hold, and those that these hold."""
    if annotation is VariantSettings:  # one of the registered methods' own
        return set().union(*(sections_of(method.settings) for method in all_methods()))
    if annotation is OptimizerTable:
        return set().union(*(sections_of(table) for table in all_optimizers().values()))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        below = (sections_of(field.annotation) for field in annotation.model_fields.values())
        return {annotation}.union(*below)
    return set().union(*(sections_of(argument) for argument in get_args(annotation)))


def changed(study: Study, path: str, section: Section, name: str, values: Mapping[str, Any]) -> Study:
    """The study with another value of one setting: that of `values`, else the first of a few that is allowed."""
    value = getattr(section, name)
    candidates = [values[path]] if path in values else _others(value, type(section).model_fields[name].annotation)
    for candidate in candidates:
        try:
            other = with_settings(study, {path: candidate})
        except ValueError:
            continue
        if other != study:
            return other
    raise AssertionError(f"no other value of {path} is known: name one in tests/stages/test_keys.py")


def _others(value: Any, annotation: Any) -> Iterator[Any]:
    yield from _choices(annotation)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 64, value + 1, value / 2, -value)
    elif isinstance(value, str | Path):
        yield f"another {value}"
    elif isinstance(value, list | tuple):
        for other in _others(value[0], NoneType) if value else (*_choices(annotation), "another", 1):
            yield [other, *value[1:]]
    yield from (0.5, 1, "another", [64, 128])


def _choices(annotation: Any) -> Iterator[Any]:
    for argument in get_args(annotation):
        yield from [argument] if isinstance(argument, str | int) else _choices(argument)


def _draw(folder: Path, count: int, first: int) -> None:
    folder.mkdir()
    for index in range(count):
        draw_subject((96, 80), first + index).save(folder / f"{index}.png")


def _change(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def _nothing() -> Any:
    raise AssertionError("a model was loaded to tell a key")
