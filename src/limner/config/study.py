"""The study file: TOML in, a validated `Study` out, with every fault listed at once.

What a study leaves out comes from the base's `limner.json` if it has one, else from the defaults in `settings`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationError, model_validator

from limner.config.starts import start_faults
from limner.errors import StudyError
from limner.methods import expand_variants, method_of, read_variant
from limner.settings import (
    AdapterFile,
    BaseSettings,
    ClassImages,
    Control,
    Measure,
    Memory,
    Prepare,
    Render,
    Report,
    Section,
    Subject,
    VariantSettings,
)
from limner.settings.optimizer import with_optimizer_table

RESERVED_NAMES = ("base", "conditioning")

Variant = SerializeAsAny[Annotated[VariantSettings, PlainValidator(read_variant)]]
"""The settings of any method that is registered, told by `method`."""


class Study(Section):
    """A whole study."""

    subject: Subject
    base: BaseSettings = BaseSettings()
    prepare: Prepare = Prepare()
    class_images: ClassImages = ClassImages()
    adapters: list[AdapterFile] = Field(default=[])
    variants: list[Variant] = Field(default=[])
    render: Render = Render()
    control: Control | None = None
    measure: Measure = Measure()
    memory: Memory = Memory()
    report: Report = Report()

    @model_validator(mode="after")
    def _agree(self) -> Study:
        if not (self.variants or self.adapters):
            raise ValueError("nothing is trained or compared; give at least one [[variants]] or [[adapters]]")
        labels = [adapter.name for adapter in self.adapters] + [run.label for run in expand_variants(self.variants)]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f'two variants would both be called "{label}"; give one of them a name')
            if label in RESERVED_NAMES:
                raise ValueError(f'"{label}" is a name limner keeps for itself; give the variant another')
        if faults := list(start_faults(self.variants, self.adapters)):
            raise ValueError("; ".join(faults))
        return self


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`lower` with `upper` laid over it, table by table; lists and values are replaced whole."""
    result = dict(lower)
    for name, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a study file; raises StudyError when it is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(str(path), ["there is no such file; name a study (.toml)"]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(str(path), [f"cannot be read as TOML: {error}"]) from None


def resolve_study(raw: Mapping[str, Any], defaults: Mapping[str, Any], source: str = "study") -> Study:
    """Lay a study over the base's recommended settings and validate it.

    `defaults` is the `defaults` table of `limner.json`: tables as in a study, and under `variants` one table a
    method. Raises StudyError with every fault at once.
    """
    lower = {name: value for name, value in defaults.items() if name not in ("variants", "control")}
    laid = merged(lower, raw)
    if isinstance(raw.get("control"), Mapping):
        laid["control"] = merged(defaults.get("control", {}), raw["control"])
    by_method = defaults.get("variants", {})
    if isinstance(raw.get("variants"), list):
        laid["variants"] = [
            _laid_over(by_method.get(v.get("method"), {}), v) if isinstance(v, Mapping) else v for v in raw["variants"]
        ]
    try:
        return Study.model_validate(laid)
    except ValidationError as error:
        raise StudyError(source, [_fault(entry) for entry in error.errors()]) from None


def _laid_over(recommended: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """A variant over what is recommended for its method; another optimizer takes nothing from the recommended one's."""
    try:
        lower, upper = with_optimizer_table(recommended), with_optimizer_table(variant)
    except ValueError:  # named when the variant is read
        return merged(recommended, variant)
    theirs, ours = lower.get("optimizer", {}), upper.get("optimizer", {})
    if isinstance(ours, Mapping) and ours.get("name", theirs.get("name")) != theirs.get("name"):
        lower = {name: value for name, value in lower.items() if name != "optimizer"}
    return merged(lower, upper)


def with_settings(study: Study, changes: Mapping[str, Any]) -> Study:
    """The study with some settings changed, by their dotted paths as in `setting_origins`."""
    tree: Any = study.model_dump()
    for path, value in changes.items():
        *above, name = path.split(".")
        table = tree
        for step in above:
            table = table[int(step)] if isinstance(table, list) else table[step]
        table[name] = value
    return Study.model_validate(tree)


def setting_origins(study: Study, raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """Where every setting came from, by its dotted path: "study", "limner.json" or "default"."""
    origins = {}
    raw = _with_optimizer_tables(raw)
    for path in _paths(study.model_dump(mode="json")):
        recommended: Any = defaults
        if path[0] == "variants":
            method = method_of(study.variants[int(path[1])]).name
            recommended, rest = with_optimizer_table(defaults.get("variants", {}).get(method, {})), path[2:]
        else:
            rest = path
        found_in = "study" if _has(raw, path) else "limner.json" if _has(recommended, rest) else "default"
        origins[".".join(path)] = found_in
    return origins


def _with_optimizer_tables(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    variants = raw.get("variants")
    return {**raw, "variants": [*map(with_optimizer_table, variants)]} if isinstance(variants, list) else raw


def _paths(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _paths(below, (*above, name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for index, below in enumerate(value):
            yield from _paths(below, (*above, str(index)))
    else:
        yield above


def _has(tree: Any, path: Sequence[str]) -> bool:
    for name in path:
        if isinstance(tree, list):
            tree = tree[int(name)] if int(name) < len(tree) else None
        elif isinstance(tree, Mapping) and name in tree:
            tree = tree[name]
        else:
            return False
    return True


def _fault(entry: Any) -> str:
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in entry["loc"])
    value = entry.get("input")
    if entry["type"] == "extra_forbidden":
        return f"{place}: unknown key; look at the settings reference for the keys of this table"
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
    message = entry["msg"].removeprefix("Value error, ")
    return f"{place}: {message}{shown}" if place else f"{message}{shown}"


def file_faults(study: Study, folder: Path) -> list[str]:
    """What the study names on disk and is not there; `folder` is the study file's."""
    named = [("subject.photos", study.subject.photos, True)]
    if study.class_images.folder:
        named.append(("class_images.folder", study.class_images.folder, True))
    if study.measure.others:
        named.append(("measure.others", study.measure.others, True))
    if study.control:
        named += [(f"control.references.{r.name}.image", r.image, False) for r in study.control.references]
    faults = [
        f"adapters.{adapter.name}.file: there is no file or folder {folder / adapter.file}"
        for adapter in study.adapters
        if not (folder / adapter.file).exists()
    ]
    for place, path, is_folder in named:
        found = (folder / path).is_dir() if is_folder else (folder / path).is_file()
        if not found:
            faults.append(f"{place}: there is no {'folder' if is_folder else 'file'} {folder / path}")
    return faults
