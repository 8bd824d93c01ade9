"""Opening a study: read, laid over the base's recommendations and checked, before any weight is loaded.

Everything that can be known without weights is known here, and all faults are told at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from limner.adapters.exchange.imported import hash_of_imported, read_imported, require_fits_base
from limner.adapters.exchange.reading import ForeignLora, why_merged
from limner.artifacts import canonical_json, hash_bytes, read_record
from limner.base import BaseLocation, find_base
from limner.base.devices import device_memory_gib
from limner.base.find import MINIATURE, SAFETY_PARTS, find_controlnet, find_vae, hash_of_part
from limner.config import (
    AdapterFile,
    Control,
    Study,
    VariantRun,
    expand_variants,
    file_faults,
    files_as_adapters,
    merged,
    read_toml,
    resolve_study,
    setting_origins,
    stacks_of,
    with_settings,
)
from limner.decoding import Decoders
from limner.errors import BaseError, InputError, RecordError, StudyError
from limner.memory import Parts, adapter_bytes, fit, read_parts, read_shapes
from limner.memory import faults as memory_faults
from limner.photos import named_subject
from limner.records import LockFile
from limner.rendering.controlnet import require_fit
from limner.stages.control import read_reference
from limner.training import most_kept, require_trackers

LOCK = "study.lock.json"
MODELS = (("base", "model"), ("base", "vae"), ("control", "model"))
"""Settings that name a model: a path beside the study file comes before a hub id of the same spelling."""


@dataclass(frozen=True)
class OpenStudy:
    """A study that was read and checked, with everything that it names found on this machine; no weight is loaded.

    What is hashed or read from files' headers is read when it is first asked for, and once.
    """

    study: Study
    source: Path
    base: BaseLocation
    origins: dict[str, str]
    vae: Path | None = None  # in place of the base's own
    controlnet: Path | None = None  # where the study has references
    limit_gib: float | None = None  # the GPU memory it must do with; None where none is known

    @property
    def folder(self) -> Path:
        """What the study's paths are relative to."""
        return self.source.parent

    @cached_property
    def runs(self) -> list[VariantRun]:
        """The adapters to be trained, in the study's order."""
        return expand_variants(self.study.variants)

    @cached_property
    def parts(self) -> Parts:
        """What of models and photos matters for memory."""
        return read_parts(self.study, self.folder, self.base, self.vae, self.controlnet)

    @cached_property
    def imported(self) -> dict[str, Path]:
        """The files or folders of adapters that were made elsewhere, by name."""
        return {each.name: self.folder / each.file for each in self.study.adapters}

    @cached_property
    def imported_hashes(self) -> dict[str, str]:
        """SHA-256 of each adapter that was made elsewhere, by name."""
        return {name: hash_of_imported(path) for name, path in self.imported.items()}

    @cached_property
    def base_hash(self) -> str:
        """What names the base in the keys of class images and trainings: its parts' content, the layers left out."""
        return self._base_hash(self._parts_in_place)

    @cached_property
    def rendering_hash(self) -> str:
        """What names the base in the keys of renders: a safety checker may black them."""
        checked = self.study.base.safety_checker and self.base.has_safety_checker
        hashes = [hash_of_part(self.base.path / part) for part in SAFETY_PARTS] if checked else []
        return self._base_hash(self._parts_in_place | ({"safety_checker": hashes} if checked else {}))

    @cached_property
    def _parts_in_place(self) -> dict[str, Any]:
        """What the study puts in the place of the base's own parts."""
        clip_skip = self.study.base.clip_skip
        vae = {"vae": hash_of_part(self.vae)} if self.vae else {}
        return vae | ({"clip_skip": clip_skip} if clip_skip else {})

    def _base_hash(self, parts: Mapping[str, Any]) -> str:
        content = self.base.content_hash
        return hash_bytes(canonical_json([content, parts])) if parts else content


def open_study(
    source: Path, *, device: torch.device | None = None, memory: str = "", run_folder: Path | None = None
) -> OpenStudy:
    """Read and check a study file. Raises StudyError with every fault at once, before any weight is loaded.

    With a GPU as `device`, or with `memory` in GiB, what the study leaves open is chosen to fit, and what cannot fit
    the GPU is a fault. `run_folder` is the folder of a run that may have begun: it keeps the memory that it began with.
    """
    opened = fit_to_memory(checked_study(source), device, memory, run_folder)
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu and opened.limit_gib is not None:
        too_large = memory_faults(opened.study, opened.parts, opened.limit_gib)
        if too_large:
            raise StudyError(str(source), too_large)
    return opened


def fit_to_memory(
    opened: OpenStudy, device: torch.device | None = None, memory: str = "", run_folder: Path | None = None
) -> OpenStudy:
    """The study with what its author left open chosen to fit the memory there is, or that it should do with."""
    available = device_memory_gib(device) if device is not None else None
    asked = _budget_gib(memory, opened.study, run_folder)
    budget = available if asked == "auto" else asked
    limits = [gib for gib in (available, budget) if isinstance(gib, float)]
    limit = min(limits, default=None)
    if not isinstance(budget, float):
        return replace(opened, limit_gib=limit)
    study = with_settings(opened.study, {"memory.budget_gib": budget})
    fitted = fit(study, opened.parts, budget, opened.origins)
    chosen = dict.fromkeys(["memory.budget_gib", *fitted.changes], "memory")
    return replace(opened, study=fitted.study, origins=opened.origins | chosen, limit_gib=limit)


def with_photos_kept(opened: OpenStudy, names: Sequence[str]) -> OpenStudy:
    """The study with these photos, beside its own, among those that are used whatever their size."""
    if not names:
        return opened
    kept = list(dict.fromkeys([*opened.study.prepare.keep, *names]))
    study = with_settings(opened.study, {"prepare.keep": kept})
    return replace(opened, study=study, origins=opened.origins | {"prepare.keep": "--keep"})


def study_of_run(adapter: Path) -> Study | None:
    """The resolved study of the run that an adapter's folder lies in (two folders up); None where it lies elsewhere."""
    lock = adapter.resolve().parent.parent / LOCK
    if not lock.is_file():
        return None
    return Study.model_validate(read_lock(lock.parent).study)


def read_lock(run: Path) -> LockFile:
    """The lock file in a run's folder. Raises RecordError when it is absent or damaged."""
    return read_record(run / LOCK, LockFile)


def models_beside(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """The study's tables, with models that lie in its `folder` named by their path; `miniature` is always ours."""
    laid = raw
    for table, key in MODELS:
        named = raw.get(table, {}).get(key) if isinstance(raw.get(table), Mapping) else None
        if isinstance(named, str) and named and named != MINIATURE and (folder / named).exists():
            laid = merged(laid, {table: {key: str(folder / named)}})
    return laid


def _budget_gib(memory: str, study: Study, run_folder: Path | None) -> float | Literal["auto"] | None:
    """What is asked for: by `memory`, by the study, or by the run that has begun (None: it began without a limit)."""
    if memory and memory != "auto":
        try:
            asked = float(memory)
        except ValueError:
            asked = 0.0
        if not 0 < asked < math.inf:
            raise InputError(f'--memory "{memory}" is not a size; give "auto" or GiB, such as 6, 8, 12, 16 or 24')
        return asked
    of_study = study.memory.budget_gib
    if of_study != "auto" or memory == "auto" or run_folder is None:
        return of_study
    try:
        kept = read_lock(run_folder).study["memory"]["budget_gib"]
        return None if kept == "auto" else float(kept)
    except (RecordError, ValueError, KeyError, TypeError):
        return "auto"  # nothing has begun there


def checked_study(source: Path) -> OpenStudy:
    """The study as its file and its base say it, whatever device it will run on. Raises StudyError as `open_study`."""
    raw = models_beside(source.parent, read_toml(source))
    raw, by_folder = _subject_by_folder(source.parent, files_as_adapters(raw))
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
    vae, controlnet = _found_vae(study.base.vae, faults), None
    if base is not None and not faults:
        faults += _adapter_faults(study, source.parent, base, vae)
    if study.control and study.control.references and base is not None:
        controlnet = _found_controlnet(study.control, base, faults)
        faults += _reference_faults(study.control, source.parent, study.prepare.size_px)
    faults += _variant_faults(study)
    if faults or base is None:
        raise StudyError(str(source), faults)
    return OpenStudy(study, source, base, setting_origins(study, raw, defaults) | by_folder, vae, controlnet)


def _subject_by_folder(folder: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A study without a class noun takes it, and the identifier, from kohya's folder names; and what it took."""
    subject = raw.get("subject")
    if not isinstance(subject, dict) or "class_noun" in subject or not isinstance(subject.get("photos"), str):
        return raw, {}
    named = named_subject(folder / subject["photos"])
    if named is None:
        return raw, {}
    taken = {"class_noun": named.class_noun} | ({} if "identifier" in subject else {"identifier": named.identifier})
    return raw | {"subject": subject | taken}, {f"subject.{name}": "folder name" for name in taken}


def expected_bytes(opened: OpenStudy) -> int:
    """About how much disk a run needs: adapters, those kept to choose from, two resumable states, and the pictures."""
    runs = opened.runs
    weights = sum(file.stat().st_size for part in ("unet", "text_encoder") for file in opened.base.weight_files(part))
    thawed = any(run.method.thaws for run in runs)
    merged = sum(adapter.merged for adapter in opened.study.adapters)
    resumable = 2 * 6 * weights if thawed else weights  # fp32 weights and two moments of fp16 files, twice
    study, shapes = opened.study, opened.parts.shapes
    sizes = {run.label: adapter_bytes(run, shapes) for run in runs}
    kept = [sum(most_kept(run.variant.validation) * sizes[run.label] for run in stack) for stack in stacks_of(runs)]
    pixels = study.render.size[0] * study.render.size[1]
    pictures = len(study.render.prompts) * len(study.render.seeds) * study.render.images_per_seed * (len(runs) + 1)
    pictures += study.class_images.count
    adopted = merged * 2 * weights
    return sum(sizes.values()) + adopted + max(kept, default=0) + resumable + pictures * 2 * pixels


def _found_controlnet(settings: Control, base: BaseLocation, faults: list[str]) -> Path | None:
    """Its folder; None, with a fault more, for one that is not there or does not fit."""
    try:
        folder = find_controlnet(settings.model, base)
        if base.kind == "folder":
            require_fit(folder, json.loads((base.path / "unet" / "config.json").read_text(encoding="utf-8")))
    except BaseError as error:
        faults.append(f"control.model: {error}")
        return None
    return folder


def _found_vae(vae: str, faults: list[str]) -> Path | None:
    """The file or folder of the study's VAE; None without one, and with a fault more for one that is not there."""
    try:
        return find_vae(vae) if vae else None
    except BaseError as error:
        faults.append(str(error))
        return None


def _reference_faults(settings: Control, folder: Path, native_size_px: int) -> Iterator[str]:
    present = [row for row in settings.references if (folder / row.image).is_file()]  # others are among `file_faults`
    if not present:
        return
    with Decoders(1) as decoders:
        for row in present:
            try:
                read_reference(row, settings, folder, native_size_px, decoders)
            except InputError as error:
                said = str(error)
                yield said if said.startswith("control.references") else f"control.references.{row.name}.image: {said}"


def _adapter_faults(study: Study, folder: Path, base: BaseLocation, vae: Path | None) -> Iterator[str]:
    """What is wrong with LoRAs made elsewhere, and with training on from them."""
    for adapter in study.adapters:
        try:
            lora = read_imported(folder / adapter.file)
            require_fits_base(lora, base, vae)
        except InputError as error:
            yield f"adapters.{adapter.name}.file: {error}"
            continue
        if lora.changes and not adapter.merged:
            yield f"adapters.{adapter.name}.file: {lora.path} {why_merged(lora.changes)}; set merged = true"
        if not adapter.merged:
            yield from _continuation_faults(study, adapter, lora, base)


def _continuation_faults(study: Study, adapter: AdapterFile, lora: ForeignLora, base: BaseLocation) -> Iterator[str]:
    """Why variants cannot train a LoRA further: another rank or alpha, or other layers than it has."""
    shapes = read_shapes(base)
    for run in expand_variants(study.variants):
        if run.start_from == adapter.name:
            fault = run.method.further_fault(run, lora.low_rank, adapter.strength, shapes.pristine)
            if fault:
                yield f'{run.label}: start_from "{adapter.name}" {fault}'


def _variant_faults(study: Study) -> Iterator[str]:
    for run in expand_variants(study.variants):
        try:
            require_trackers(run.variant.log_to)
        except InputError as error:
            yield f"{run.label}: {error}"
        if run.variant.prior_preservation and study.class_images.count == 0:
            yield f"{run.label}: prior_preservation = true needs class images, and class_images.count is 0; raise it"
