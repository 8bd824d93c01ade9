"""Which record a stage writes, and how records of earlier versions become those of now: small pure functions.

`UPGRADES[stage][n]` turns the JSON of record version n + 1 into that of n + 2. Version 1 was written before records had
versions: its manifests carry no hash of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limner.records.base import ArtifactRecord
from limner.records.photos import ClassSetRecord, PhotoSetRecord
from limner.records.renders import ControlSetRecord, RenderSetRecord
from limner.records.training import AdapterRecord, CheckpointRecord, KeptRecord, ReportRecord

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

RECORDS: Mapping[str, type[ArtifactRecord]] = {
    "prepare": PhotoSetRecord,
    "class-images": ClassSetRecord,
    "train": AdapterRecord,
    "adopt": AdapterRecord,
    "render": RenderSetRecord,
    "control": ControlSetRecord,
    "checkpoint": CheckpointRecord,
    "kept": KeptRecord,
    "report": ReportRecord,
}
OF_LORA = ("rank", "alpha", "scale")


def adapter_from_1(raw: dict[str, Any]) -> dict[str, Any]:
    """`final_loss` is called `loss`; rank, alpha and scale, where it has them, belong to what its method says."""
    kept = {name: value for name, value in raw.items() if name not in (*OF_LORA, "final_loss")}
    of_method = {name: raw.get(name) for name in OF_LORA}
    of_method = of_method if any(value is not None for value in of_method.values()) else {}
    loss = {"loss": raw["final_loss"]} if "final_loss" in raw else {}
    return {**kept, "method_record": of_method, **loss}


def scores_from_1(raw: dict[str, Any]) -> dict[str, Any]:
    """Of copying, `photos` had the similarities; the `origin` of others was called `from`."""
    anchors = {metric: _anchors_from_1(dict(found)) for metric, found in raw.get("anchors", {}).items()}
    later = {"control": [], "nearest_photos": [], "models": {}, "notes": []}
    return {**later, **raw, "anchors": anchors}


def _anchors_from_1(found: dict[str, Any]) -> dict[str, Any]:
    if isinstance(found.get("photos"), list):
        found["photo_similarities"] = found.pop("photos")
    if others := found.get("power_others"):
        found["power_others"] = {"origin" if name == "from" else name: value for name, value in others.items()}
    return found


def _as_it_is(raw: dict[str, Any]) -> dict[str, Any]:
    return raw


UPGRADES: Mapping[str, Sequence[Upgrade]] = {
    **{stage: (_as_it_is,) for stage in RECORDS},
    "train": (adapter_from_1,),
    "adopt": (adapter_from_1,),
    "measure": (scores_from_1,),
}


def upgraded(stage: str, version: int, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a record of an earlier version as it would be written now."""
    result = dict(raw)
    for upgrade in UPGRADES[stage][version - 1 :]:
        result = upgrade(result)
    return result
