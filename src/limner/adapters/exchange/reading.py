"""Read a LoRA of any program: kohya's keys, diffusers' old and new ones, PEFT's; every key must find its place."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.adapters.adapter import Adapter
from limner.adapters.exchange.changes import Change, Rescaled, Rotation
from limner.adapters.exchange.forms import (
    ENDINGS,
    KNOWN_ENDINGS,
    NORM_ENDINGS,
    UNREAD,
    as_update,
    changes_of,
    has_update,
)
from limner.adapters.exchange.merging import Changes
from limner.adapters.exchange.names import is_norm, kernel_px, layer_of_name
from limner.adapters.low_rank import LowRankUpdate
from limner.adapters.low_rank_updates import LowRankUpdates
from limner.base.inspect import inspect
from limner.base.inspect.report import TITLES
from limner.base.weights.streaming import TensorFile
from limner.errors import AdapterError, WeightsError

LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
PEFT_CONFIG = "adapter_config.json"
METADATA_KEYS = ("lora_adapter_metadata",)
SHOWN = 5

Layers = dict[tuple[str, str], dict[str, str]]  # by module and layer: what a tensor is there, and its key


def lora_file_in(path: Path) -> Path:
    """The LoRA's file: `path` itself, or the one in that folder. Raises AdapterError where there is none."""
    if path.is_file():
        return path
    known = [path / name for name in LORA_FILES if (path / name).is_file()]
    others = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if known or len(others) == 1:
        return (known or others)[0]
    raise AdapterError(f"{path} holds no LoRA: neither {' nor '.join(LORA_FILES)}, nor one .safetensors file alone")


@dataclass(frozen=True)
class ForeignLora:
    """A LoRA of another program; what it `changes` beyond low-rank updates (by module and key) can only be merged."""

    path: Path
    low_rank: Mapping[str, Mapping[str, LowRankUpdate]]
    changes: Changes
    metadata: Mapping[str, str]

    def adapter(self, label: str = "") -> Adapter:
        """It as an adapter. Raises AdapterError for what can only be merged: DoRA, OFT, full differences."""
        if self.changes:
            raise AdapterError(
                f"{self.path} {why_merged(self.changes)}; merge it first: "
                f"limner export {self.path} MERGED.safetensors --format merged --base BASE"
            )
        return Adapter.of(label or self.path.stem, LowRankUpdates(self.low_rank))


def load_foreign(path: Path) -> ForeignLora:
    """A LoRA of SD 1.5 from a file or folder, whoever made it.

    Raises AdapterError for another family, for keys that find no place (they are named, up to five), for tensors that
    do not fit each other, and for damaged files.
    """
    file = lora_file_in(path)
    report = inspect(file)
    if report.family != "lora-sd15":
        why = f": {report.problems[0]}" if report.problems else ""
        raise AdapterError(f"{file} is {TITLES[report.family]}; here a LoRA of Stable Diffusion 1.5 is needed{why}")
    try:
        with TensorFile(file) as opened:
            metadata = dict(opened.header.metadata)
            tensors = {name: opened.tensor(name) for name in opened.header.tensors}
    except WeightsError as error:
        raise AdapterError(str(error)) from None
    alphas = _alphas_apart(file, metadata)
    low_rank: dict[str, dict[str, LowRankUpdate]] = {}
    changes: dict[tuple[str, str], Change] = {}
    for (module, layer), keys in _by_layer(file, tensors).items():
        of_layer = {ending: tensors[key] for ending, key in keys.items()}
        update, others = _read(file, module, layer, of_layer, alphas)
        changes |= {(module, f"{layer}.{leaf}"): change for leaf, change in others.items()}
        if update is not None and "weight" not in others:
            low_rank.setdefault(module, {})[layer] = update
    return ForeignLora(file, low_rank, changes, metadata)


def _by_layer(file: Path, keys: Iterable[str]) -> Layers:
    """Keys by module and layer, and what each is there. Raises AdapterError for those that find no place."""
    layers: Layers = {}
    lost = []
    for key in keys:
        stem, ending = _split(key)
        layer_key = layer_of_name(stem) if ending else None
        astray = (
            layer_key is None
            or ending in layers.get(layer_key, {})
            or (is_norm(*layer_key) and ending not in NORM_ENDINGS)
        )
        if layer_key is None or astray:
            lost.append(key)
        else:
            layers.setdefault(layer_key, {})[ending] = key
    if lost:
        _require_read_form(file, lost)
        shown = ", ".join(sorted(lost)[:SHOWN]) + (", …" if len(lost) > SHOWN else "")
        raise AdapterError(f"{file}: {len(lost)} of {len(list(keys))} keys find no place in SD 1.5: {shown}")
    return layers


def _require_read_form(file: Path, lost: Iterable[str]) -> None:
    """Raise AdapterError with the name of a form that is not read."""
    forms = (form for key in lost for ending, form in UNREAD.items() if key.endswith("." + ending))
    if form := next(forms, ""):
        raise AdapterError(
            f"{file} is {form}, which limner does not read; merge it into its base with the program that made it, and "
            "give that model as the base"
        )


def _split(key: str) -> tuple[str, str]:
    """A key's layer and what the tensor is ("down", "up", "alpha", …); "" for an ending that is not known."""
    for ending in KNOWN_ENDINGS:
        if key.endswith("." + ending):
            return key.removesuffix("." + ending), ENDINGS[ending]
    return key, ""


def _read(
    file: Path, module: str, layer: str, tensors: Mapping[str, Tensor], alphas: Mapping[str, Any]
) -> tuple[LowRankUpdate | None, dict[str, Change]]:
    """A layer's update, if it has one, and what can only be merged."""
    alpha = _alpha_apart(module, layer, alphas)
    try:
        update = as_update(tensors, alpha, kernel_px(module, layer)) if has_update(tensors) else None
        return update, changes_of(tensors, update)
    except AdapterError as error:
        raise AdapterError(f"{file}: {module}.{layer}: {error}; the file is incomplete or damaged") from None


def why_merged(changes: Changes) -> str:
    """What stands in the way of using changes beside a base, as a verb and its object."""
    kinds = {type(change) for change in changes.values()}
    if Rescaled in kinds:
        return "is a DoRA: it rescales the base's weights instead of adding to them"
    if Rotation in kinds:
        return "is an OFT: it turns the base's weights instead of adding to them"
    return "holds full differences of weights, biases or norms"


def _alphas_apart(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Rank and alpha that are said beside the weights: in diffusers' header metadata or PEFT's configuration file."""
    text = metadata.get(METADATA_KEYS[0], "")
    config = file.with_name(PEFT_CONFIG)
    with contextlib.suppress(OSError, ValueError, RecursionError):
        read = json.loads(text or config.read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return read
    return {}


def _alpha_apart(module: str, layer: str, alphas: Mapping[str, Any]) -> float | None:
    """PEFT's alpha for a layer: the pattern that its name ends with, else the common one."""
    prefix = f"{module}." if f"{module}.lora_alpha" in alphas else ""
    patterns = alphas.get(f"{prefix}alpha_pattern") or {}
    for pattern, alpha in patterns.items():
        if layer == pattern or layer.endswith("." + pattern) or pattern.endswith("." + layer):
            return float(alpha)
    common = alphas.get(f"{prefix}lora_alpha")
    return None if common is None else float(common)
