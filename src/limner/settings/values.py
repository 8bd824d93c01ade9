"""The kinds of values that settings have, and what a table of the study file is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

SamplerName = Literal["ddim", "unipc", "dpm++", "euler"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
PLACEHOLDERS = ("subject", "identifier", "class_noun")
CAPTION = "caption"  # a placeholder of instance prompts alone
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 _.+-]*$"


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def known_placeholders(prompt: str, names: tuple[str, ...] = PLACEHOLDERS) -> str:
    """The prompt, whose placeholders are all among `names`. Raises ValueError for others."""
    try:
        prompt.format(**dict.fromkeys(names, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in names)
        raise ValueError(f"unknown placeholder ({error}); there are {known}") from None
    return prompt


def differing_names(rows: list[Any]) -> list[Any]:
    """The rows, whose names all differ. Raises ValueError else."""
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two rows are called "{name}"; names must differ')
    return rows


Integers = Annotated[list[int], BeforeValidator(_as_list), Field(min_length=1)]
Numbers = Annotated[list[float], BeforeValidator(_as_list), Field(min_length=1)]
Prompt = Annotated[str, Field(min_length=1), AfterValidator(known_placeholders)]
InstancePrompt = Annotated[
    str, Field(min_length=1), AfterValidator(lambda prompt: known_placeholders(prompt, (*PLACEHOLDERS, CAPTION)))
]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
BatchSize = AtLeastOne | Literal["auto"]
NotNegative = Annotated[int, Field(ge=0)]
SizePx = Annotated[int, Field(ge=64, le=2048, multiple_of=8)]


class Section(BaseModel):
    """A table of the study file: unknown keys are errors, values cannot be changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
