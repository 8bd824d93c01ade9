"""Records as stages write them, of which a test names what matters to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from limner.artifacts import PhotoSet, write_manifest
from limner.records import (
    AdapterRecord,
    Cell,
    ClassImage,
    ClassSetRecord,
    ControlReferenceRecord,
    ControlSetRecord,
    CropBox,
    PhotoRecord,
    PhotoSetRecord,
    RenderSetRecord,
    ScoresRecord,
)


def photo(file: str, **more: Any) -> PhotoRecord:
    """A crop that was cut from a photo called as its own file."""
    plain = {
        "source": file,
        "size": (64, 64),
        "crop": CropBox(x0=0, y0=0, x1=64, y1=64),
        "focus": "center",
        "head": None,
        "notes": [],
        "warnings": [],
    }
    return PhotoRecord(file=file, **{**plain, **more})


def photos(files: list[str], **more: Any) -> PhotoSetRecord:
    """A photo set of crops, each with `more`."""
    return PhotoSetRecord(photos=[photo(file, **more) for file in files], refused=[])


def class_set(files: list[str], prompt: str = "a photo of cat", sizes: Any = ()) -> ClassSetRecord:
    """Class images; `sizes`, one each, are those of buckets."""
    images = [
        ClassImage(file=file, index=index, key=file, size=sizes[index] if sizes else None)
        for index, file in enumerate(files)
    ]
    return ClassSetRecord(prompt=prompt, images=images, keys={file: file for file in files})


def adapter(label: str, **more: Any) -> AdapterRecord:
    """A trained LoRA."""
    plain = {"method": "lora", "method_record": {}, "training_seed": 0, "steps": 3, "start_from": None}
    return AdapterRecord(label=label, **{**plain, **more})


def grid(cells: list[Cell], references: list[ControlReferenceRecord] | None = None) -> RenderSetRecord:
    """A grid of renders; with references one of conditioned renders."""
    keys = {cell.file: cell.file for cell in cells}
    if references is None:
        return RenderSetRecord(cells=cells, keys=keys)
    return ControlSetRecord(cells=cells, keys=keys, references=references)


def change_photos(photo_set: PhotoSet, change: Callable[[int, PhotoRecord], dict[str, Any]]) -> PhotoSet:
    """The photo set with changed fields in its photos' records, by each one's place."""
    changed = [each.model_copy(update=change(place, each)) for place, each in enumerate(photo_set.photos)]
    record = photo_set.record.model_copy(update={"photos": changed})
    write_manifest(photo_set.folder, replace(photo_set.manifest, record=record))
    return PhotoSet(photo_set.folder)


def hold_out(photo_set: PhotoSet, count: int) -> PhotoSet:
    """The photo set, whose first `count` photos are held out of training."""
    return change_photos(photo_set, lambda place, _: {"held_out": place < count})


def scores_record(**fields: Any) -> ScoresRecord:
    """Scores of some rows and anchors, given as JSON; columns that a row does not name are as of a plain render."""
    columns = {"prompt": "p", "reference": None, "seed": 0, "image_index": 0, "training_seed": None}
    manifest = {"stage": "measure", "version": 1, "record_version": 2, "key": "k", "settings": {}, "inputs": {}}
    fields = {"rows": [], "anchors": {}, "models": {}, "notes": [], "control": [], "nearest_photos": []} | fields
    fields["rows"] = [{**columns, "conditioning_scale": None, **row} for row in fields["rows"]]
    plain = {"ceiling": None, "floor": None, "note": ""}
    fields["anchors"] = {metric: {**plain, **(anchors or {})} for metric, anchors in fields["anchors"].items()}
    return ScoresRecord.model_validate({**fields, "manifest": {**manifest, "made": {}}})
