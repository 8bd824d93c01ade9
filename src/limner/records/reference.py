"""The run folder's documents, made from the records: `python -m limner.records.reference > docs/run-folder.md`.

`python -m limner.records.reference --schema > docs/run-folder.schema.json` writes the JSON Schema.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from importlib import resources
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from limner.events import Event
from limner.records import runs, scores, training
from limner.records.base import ManifestRecord
from limner.records.upgrades import RECORDS

FILES: dict[str, type[BaseModel]] = {
    "scores.json": scores.ScoresRecord,
    "log.jsonl (a line)": training.StepRecord,
    "validation.json": training.ValidationCurve,
    "study.lock.json": runs.LockFile,
    "summary.json": runs.SubjectSummary,
    "pooled.json": runs.PooledRecord,
}
EVENTS: tuple[type[BaseModel], ...] = typing.get_args(Event)  # what a line of events.jsonl is one of


def run_folder_markdown() -> str:
    """The whole page: what is where, then every record with its fields."""
    prose = resources.files("limner.records").joinpath("run-folder-prose.md").read_text(encoding="utf-8")
    return prose + "".join(_table(model) for model in _all_models())


def run_folder_schema() -> dict[str, Any]:
    """One JSON Schema: `$defs` of every record, and under `files` what each file of a run is.

    It allows unknown properties, as a reader should: a later limner may add some.
    """
    _, found = models_json_schema([(model, "validation") for model in _all_models()])
    definitions = _open(found["$defs"])
    manifests = {
        f"manifest.json of stage {stage}": {"allOf": [_reference(ManifestRecord), _reference(record)]}
        for stage, record in RECORDS.items()
    }
    files = manifests | {name: _reference(model) for name, model in FILES.items()}
    files["events.jsonl (a line)"] = {"oneOf": [_reference(event) for event in EVENTS]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "files": files, "$defs": definitions}


def _all_models() -> list[type[BaseModel]]:
    """Every record once: first the files' own, each followed by those inside it."""
    listed: list[type[BaseModel]] = []
    for model in [ManifestRecord, *RECORDS.values(), *FILES.values(), *EVENTS]:
        _add(model, listed)
    return listed


def _add(model: type[BaseModel], listed: list[type[BaseModel]]) -> None:
    if model not in listed:
        listed.append(model)
        for field in model.model_fields.values():
            for inner in _models_in(field.annotation):
                _add(inner, listed)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in typing.get_args(annotation) for model in _models_in(each)]


def _table(model: type[BaseModel]) -> str:
    said = " ".join((model.__doc__ or "").split())
    lines = [f"\n## {model.__name__}\n", said + "\n"]
    if model.model_fields:
        lines += ["| field | values | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        sentence = " ".join((field.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {_values(field.annotation)} | {sentence} |")
    return "\n".join(lines) + "\n"


def _values(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f'`"{argument}"`' for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if each is type(None) else _values(each) for each in arguments)
    if origin in (list, tuple):
        is_list = origin is list or arguments[-1] is ...
        return f"{'list of' if is_list else f'{len(arguments)} x'} {_values(arguments[0])}"
    if origin is dict:
        return f"{{name: {_values(arguments[1])}}}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", Any: "any", dict: "object"}
    return names[annotation]


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/$defs/{model.__name__}"}


def _open(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _open(each) for name, each in value.items() if (name, each) != ("additionalProperties", False)}
    return [_open(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    made = json.dumps(run_folder_schema(), indent=2) if "--schema" in sys.argv else run_folder_markdown()
    print(made, end="\n" if "--schema" in sys.argv else "")
