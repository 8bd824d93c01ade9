"""The sober part of the report: settings and where they came from, what ran where, models, how to use the adapters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.adapters import Part, kinds_of, part_types
from limner.artifacts import AdapterFolder, Artifact, Manifest, ScoreTable, read_manifest, unique
from limner.config import Section, Study
from limner.methods import method_of
from limner.records import AdapterRecord, MachineRecord
from limner.reporting.columns import number

LOCK_FILE = "study.lock.json"
FIRST_SETTINGS = ("name", "method", "rank", "alpha", "alpha_rule", "targets", "unet", "text_encoder")
TITLES = {
    "subject": "Subject",
    "base": "Base model",
    "prepare": "Photos",
    "class_images": "Class images",
    "render": "Renders",
    "control": "Control",
    "measure": "Measuring",
    "memory": "Memory",
}


@dataclass(frozen=True)
class Setting:
    """One resolved setting: a value, or one a variant."""

    name: str
    values: list[str]
    meaning: str
    origin: str


@dataclass(frozen=True)
class SettingsTable:
    """The settings of one table of the study; `heads` are the variants' names where there are several values."""

    title: str
    heads: list[str]
    rows: list[Setting]


@dataclass(frozen=True)
class Timing:
    """What one stage made, when and for how long."""

    stage: str
    name: str
    seconds: float | None
    time: str


@dataclass(frozen=True)
class Machine:
    """One machine with its libraries, and the stages that ran there."""

    description: str
    versions: str
    stages: list[str]


def read_origins(run: Path) -> Any:
    """The `origins` of the run's lock file (which setting came from where); None when it says nothing of them."""
    try:
        return json.loads((run / LOCK_FILE).read_text(encoding="utf-8")).get("origins")
    except (OSError, ValueError, AttributeError):
        return None


def read_rank_notices(run: Path) -> list[str]:
    """What the run's lock file says of ranks that are no longer low."""
    try:
        return list(json.loads((run / LOCK_FILE).read_text(encoding="utf-8")).get("ranks_not_low", {}).values())
    except (OSError, ValueError, AttributeError):
        return []


def settings_tables(study: Study, origins: Any) -> list[SettingsTable]:
    """Every resolved setting, table by table; the variants side by side."""
    tables = [
        SettingsTable(title, [], list(_settings(section, (name,), origins)))
        for name, title in TITLES.items()
        if (section := getattr(study, name)) is not None
    ]
    return [*tables[:4], _variants_table(study, origins), *tables[4:]]


def _settings(section: Section, parent: tuple[str, ...], origins: Any) -> Iterable[Setting]:
    for name, field in type(section).model_fields.items():
        path, value = (*parent, name), getattr(section, name)
        if isinstance(value, list) and value and isinstance(value[0], Section):
            for index, item in enumerate(value):
                shown = shown_value({k: v for k, v in item.model_dump().items() if v is not None})
                origin = origin_of(origins, (*path, str(index))) or origin_of(origins, path)
                yield Setting(f"{name} {index + 1}", [shown], field.description or "", origin)
        else:
            yield Setting(name, [shown_value(value)], field.description or "", origin_of(origins, path))


def _variants_table(study: Study, origins: Any) -> SettingsTable:
    names = list(dict.fromkeys([*FIRST_SETTINGS, *(name for v in study.variants for name in type(v).model_fields)]))
    names = [name for name in names if any(hasattr(variant, name) for variant in study.variants)]
    rows = []
    for name in names:
        fields = [type(v).model_fields.get(name) for v in study.variants]
        values = [shown_value(getattr(v, name)) if hasattr(v, name) else "–" for v in study.variants]
        meaning = next(field.description for field in fields if field) or ""
        known_origins = [origin_of(origins, ("variants", str(i), name)) for i, field in enumerate(fields) if field]
        said = ", ".join(dict.fromkeys(origin for origin in known_origins if origin))
        rows.append(Setting(name, values, meaning, said))
    heads = [v.name or method_of(v).name for v in study.variants]
    return SettingsTable("Variants", heads, rows)


def origin_of(origins: Any, path: Sequence[str]) -> str:
    """Where a setting came from, whether `origins` is nested or keyed by dotted paths; "" when it does not say."""
    if isinstance(origins, Mapping) and isinstance(origin := origins.get(".".join(path)), str):
        return origin
    for part in path:
        if isinstance(origins, Mapping):
            origins = origins.get(part)
        elif isinstance(origins, list) and part.isdigit() and int(part) < len(origins):
            origins = origins[int(part)]
        else:
            return ""
    return origins if isinstance(origins, str) else ""


def shown_value(value: Any) -> str:
    """A setting as a person would write it."""
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Section):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {shown_value(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(shown_value(item) for item in value)
    return number(value) if isinstance(value, float) else str(value)


def timings(artifacts: Iterable[tuple[str, Artifact]], run: Path, scores: ScoreTable) -> list[Timing]:
    """One line for each thing that was made, in the corridor's order."""
    named = [(name, artifact.manifest) for name, artifact in artifacts]
    if class_images := read_manifest(run / "class"):
        named.insert(1, ("class images", class_images))
    lines = [_timing(m.stage, name, m.made, _seconds(m)) for name, m in passes(named)]
    scores_made = scores.record.manifest.made
    return [*lines, _timing("measure", "scores", scores_made, scores_made.seconds)]


def passes(named: Iterable[tuple[str, Manifest]]) -> Iterator[tuple[str, Manifest]]:
    """The same with variants that were trained in one pass as one: their seconds are the same seconds."""
    listed: set[str] = set()
    for name, manifest in named:
        if name not in listed:
            others = manifest.made.trained_with
            listed.update(others)
            yield ", ".join([name, *others]), manifest


def _seconds(manifest: Manifest) -> float | None:
    record = manifest.record
    return record.seconds if isinstance(record, AdapterRecord) and record.seconds is not None else manifest.made.seconds


def _timing(stage: str, name: str, made: MachineRecord, seconds: float | None) -> Timing:
    if made.rendered is not None:  # pictures that lay there already took no time
        name = f"{name} ({made.rendered:,} made then)"
    return Timing(stage, name, seconds, made.time[:16].replace("T", " "))


def machines(run: Path, artifacts: Iterable[tuple[str, Artifact]], scores: ScoreTable) -> list[Machine]:
    """The machines that worked on the run with what each made; one where nothing differs."""
    made = [(name, artifact.manifest.made) for name, artifact in artifacts]
    if class_images := read_manifest(run / "class"):
        made.insert(1, ("class images", class_images.made))
    made.append(("scores", scores.record.manifest.made))
    groups: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for name, record in made:
        if not record.time:
            continue
        versions = ", ".join(f"{package} {version}" for package, version in record.versions.items())
        stages, devices = groups.setdefault((_machine(record), versions), ([], []))
        stages.append(name)
        devices += [record.device] if record.device else []
    return [
        Machine(", ".join([description, *(f"device {device}" for device in unique(devices))]), versions, stages)
        for (description, versions), (stages, devices) in groups.items()
    ]


def _machine(made: MachineRecord) -> str:
    parts = [made.platform] if made.platform else []
    if made.processors:
        parts.append(f"{made.processors} processors")
    if made.python:
        parts.append(f"Python {made.python}")
    return ", ".join(parts)


def duration(seconds: float | None) -> str:
    """4.2 s, 3 min 20 s, 1 h 5 min; "not recorded" without one."""
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def loading_lines(adapter: AdapterFolder, base: str, adapters: Sequence[AdapterFolder]) -> str:
    """Python that loads an adapter into diffusers, to be run in the run's folder."""
    nearest = _nearest_parts(adapter, {other.label: other for other in adapters})
    parts = [
        line
        for part in part_types()
        if part in nearest
        for line in part.loading_lines(f"adapters/{nearest[part].label}", nearest[part].manifest.files)
    ]
    lines = ["from diffusers import StableDiffusionPipeline"]
    lines += ["from safetensors.torch import load_file"] if any("load_file(" in line for line in parts) else []
    return "\n".join([*lines, "", *_pipeline_lines(base), *parts])


def _nearest_parts(adapter: AdapterFolder, by_label: Mapping[str, AdapterFolder]) -> dict[type[Part], AdapterFolder]:
    """For each part that acts, the adapter that holds it: itself, or the nearest that it started from."""
    nearest: dict[type[Part], AdapterFolder] = {}
    each: AdapterFolder | None = adapter
    while each is not None:
        for part in kinds_of(each):
            nearest.setdefault(part, each)
        start = None if any(part.replaces_all for part in kinds_of(each)) else each.record.start_from
        each = by_label.get(start.label) if start else None
    return nearest


def _pipeline_lines(base: str) -> list[str]:
    if base == "miniature":
        return [
            "from limner.base import find_base",
            'pipeline = StableDiffusionPipeline.from_pretrained(find_base("miniature").path)',
        ]
    loader = "from_single_file" if base.endswith(".safetensors") else "from_pretrained"
    return [f"pipeline = StableDiffusionPipeline.{loader}({json.dumps(base)})"]
