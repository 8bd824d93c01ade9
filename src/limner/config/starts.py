"""What a variant may start from: another result by its name, or a LoRA's file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.methods import known_method, method_of, variant_stems
from limner.settings import AdapterFile, VariantSettings

FILE_SUFFIX = ".safetensors"
LOW_RANK = "low_rank"  # the kind of part that a LoRA's file is
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 _.+-]")  # see `values.NAME_PATTERN`


def is_file(start: str) -> bool:
    """Whether a `start_from` is a path: it has a slash, or ends as a LoRA's file does. Names have no slash."""
    return "/" in start or start.endswith(FILE_SUFFIX)


def start_faults(variants: Sequence[VariantSettings], adapters: Sequence[AdapterFile]) -> Iterator[str]:
    """What is wrong with the variants' `start_from`."""
    files = {adapter.name: adapter for adapter in adapters}
    earlier = list(files)
    for variant in variants:
        start = variant.start_from
        if start in earlier and is_file(start):
            yield f'start_from = "{start}" is a name and may be a file: write "./{start}" for the file, or rename'
        elif start and start not in earlier:
            known = ", ".join(earlier) or "none"
            yield (
                f'start_from = "{start}" names no variant above it (there: {known}), and a LoRA\'s file would end in '
                f"{FILE_SUFFIX} or have a slash in it"
            )
        elif start in files and not files[start].merged and LOW_RANK not in method_of(variant).starts_from:
            yield (
                f'start_from = "{start}" is a LoRA, and method = "{method_of(variant).name}" can only start from whole '
                f'weights; set merged = true for "{start}" in [[adapters]]'
            )
        earlier += variant_stems(variant)


def files_as_adapters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A study's tables with every file that a variant starts from among its `[[adapters]]`, and named by its name.

    A method that cannot start from low-rank updates starts from the LoRA merged into the base; another from the LoRA as
    it is.
    """
    tables = dict(raw)
    if not isinstance(raw.get("variants"), list) or not isinstance(raw.get("adapters", []), list):
        return tables
    adapters = list(raw.get("adapters", []))
    rows = [each for each in [*raw["variants"], *adapters] if isinstance(each, Mapping)]
    names = {each.get("name") for each in rows}
    variants = list(raw["variants"])
    for index, variant in enumerate(variants):
        start = variant.get("start_from") if isinstance(variant, Mapping) else None
        if isinstance(start, str) and is_file(start) and start not in names:
            method = known_method(variant.get("method"))
            name = _adapter_of(start, method is not None and LOW_RANK not in method.starts_from, adapters)
            variants[index] = {**variant, "start_from": name}
    return tables | {"variants": variants} | ({"adapters": adapters} if adapters else {})


def _adapter_of(file: str, merged: bool, adapters: list[Any]) -> str:
    """The name of the adapter that is this file, put among `adapters` unless it is there."""
    name = NOT_IN_NAMES.sub("-", Path(file).name.removesuffix(FILE_SUFFIX)).lstrip(" _.+-") or "lora"
    made = {"name": f"{name}-merged" if merged else name, "file": file, "merged": merged}
    if made not in adapters:
        adapters.append(made)
    return made["name"]
