"""The settings reference, made from the settings themselves: `python -m limner.config.reference > docs/settings.md`."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from limner.methods import all_methods
from limner.settings import Section, Validation, sections
from limner.settings.optimizer import OptimizerTable, all_optimizers

TABLES: list[tuple[str, type[Section]]] = [
    ("[subject]", sections.Subject),
    ("[base]", sections.BaseSettings),
    ("[prepare]", sections.Prepare),
    ("[class_images]", sections.ClassImages),
    ("[[adapters]]", sections.AdapterFile),
    *((f'[[variants]] with method = "{method.name}"', method.settings) for method in all_methods()),
    *((f'optimizer = {{ name = "{name}" }}, in a variant', table) for name, table in all_optimizers().items()),
    ("validation, in a variant", Validation),
    ("[render]", sections.Render),
    ("[[render.prompts]]", sections.RenderPrompt),
    ("[control]", sections.Control),
    ("[[control.references]]", sections.ControlReference),
    ("[measure]", sections.Measure),
    ("[memory]", sections.Memory),
    ("[report]", sections.Report),
]
HEAD = """# Settings

Every setting of a study file. What a study leaves out comes from the base's `limner.json` if it has one, else from
the defaults here, which suit SD 1.5. This page is made from the code: `make settings`.
"""


def settings_markdown() -> str:
    """The whole reference as Markdown."""
    return HEAD + "".join(_table(title, section) for title, section in TABLES)


def _table(title: str, section: type[Section]) -> str:
    title_lines = [f"\n## `{title}`\n", (section.__doc__ or "").strip() + "\n"]
    lines = [*title_lines, "| key | default | values | |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        sentence = (field.description or "").replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{name}` | {_default(field)} | {_values(field.annotation)} | {sentence} |")
    return "\n".join(lines) + "\n"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if value is None:
        return "left out"
    if isinstance(value, OptimizerTable):
        return f'`"{value.name}"`'
    return "see below" if isinstance(value, BaseModel) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _values(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f'`"{argument}"`' for argument in arguments)
    if origin is typing.Annotated:
        return _values(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return ", ".join(_values(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        inner = _values(arguments[0])
        return f"list of {inner}" if origin is list else f"{len(arguments)} x {inner}"
    names = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
    return names.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else "table")


if __name__ == "__main__":
    print(settings_markdown(), end="")
