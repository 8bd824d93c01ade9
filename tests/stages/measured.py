"""Small artefacts to be measured: drawn photos and grids with their manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.artifacts import Cell, Manifest, PhotoSet, RenderSet, file_hashes, write_manifest
from limner.base import BaseLocation
from limner.config import Measure, Subject
from limner.events import Event, Notice, Progressed
from limner.measuring import canny_edges
from limner.progress import Progress
from limner.records import ControlReferenceRecord
from limner.stages.measure import measure
from tests.drawn import draw_subject
from tests.recorded import grid, photos

SUBJECT = Subject(photos=Path("photos"), class_noun="cat")
SETTINGS = Measure(likeness=["efficientnet-lite0"], prompt_fidelity="base")
LIKENESS, GAIN, COPYING = (f"{role}/efficientnet-lite0" for role in ("likeness", "likeness_gain", "copying"))
FIDELITY = "prompt_fidelity/base"
PROMPTS = {"plain": "a photo of {subject}", "night": "{subject} at night"}


class Notices(Progress):
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(self.hear)
        self.heard: list[str] = []
        self.done: dict[str, tuple[int, int]] = {}

    def hear(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.heard.append(event.message)
        if isinstance(event, Progressed) and event.last:
            self.done[event.title] = (event.step, event.total)


def write_photos(folder: Path, count: int) -> PhotoSet:
    folder.mkdir(parents=True)
    record = photos([f"{index:04}.png" for index in range(count)])
    for index, photo in enumerate(record.photos):
        draw_subject((64, 64), index).save(folder / photo.file)
    hashes = file_hashes(folder)
    write_manifest(folder, Manifest("prepare", 1, "p", {"size_px": 64}, {}, hashes, record=record))
    return PhotoSet(folder)


def write_grid(folder: Path, cells: list[Cell], settings: dict[str, Any], references: Any = None) -> RenderSet:
    for index, cell in enumerate(cells):
        (folder / cell.file).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / cell.file).exists():
            draw_subject((64, 64), 20 + index).save(folder / cell.file)
    stage = "render" if references is None else "control"
    record = grid(cells, references)
    write_manifest(folder, Manifest(stage, 1, "r", settings, {}, file_hashes(folder), record=record))
    return RenderSet(folder)


def render_cells() -> list[Cell]:
    """Two prompts and two seeds of the base and of one variant."""
    return [
        Cell(
            variant=variant, prompt=name, seed=seed, image_index=0, file=f"{variant}/{name}/{seed}.png",
            text=SUBJECT.fill(prompt, as_class=variant == "base"),
            training_seed=None if variant == "base" else 0, size=(64, 64),
        )
        for variant in ("base", "lora-2") for name, prompt in PROMPTS.items() for seed in (1, 2)
    ]  # fmt: skip


def control_cells() -> list[Cell]:
    return [
        Cell(
            variant=variant, prompt=text, seed=1, image_index=0, file=f"{variant}/painting/1.png", text=text,
            reference="painting", conditioning_scale=1.0, size=(64, 64),
        )
        for variant, text in (("base", "portrait of cat"), ("lora-2", "portrait of sks cat"))
    ]  # fmt: skip


def write_controls(folder: Path) -> RenderSet:
    """Conditioned cells: the base's has the very edges it was given, the variant's others."""
    picture = np.asarray(draw_subject((64, 64), 40))
    (folder / "conditioning").mkdir(parents=True)
    (folder / "base" / "painting").mkdir(parents=True)
    Image.fromarray(picture).save(folder / "base" / "painting" / "1.png")
    edges = np.repeat(canny_edges(picture, 100, 200)[..., None] * np.uint8(255), 3, 2)
    Image.fromarray(edges).save(folder / "conditioning" / "painting-canny.png")
    names = {"image": "conditioning/painting.png", "canny": "conditioning/painting-canny.png"}
    reference = ControlReferenceRecord(name="painting", **names, size=(64, 64))
    thresholds = {"canny_low": 100, "canny_high": 200}
    return write_grid(folder, control_cells(), thresholds, references=[reference])


def again(folder: Path, base: BaseLocation, settings: Measure = SETTINGS, **options: Any) -> dict[str, Any]:
    controls = RenderSet(folder / "control")
    table = measure(
        folder / "scores.json", PhotoSet(folder / "photos"), RenderSet(folder / "renders"), controls,
        SUBJECT, settings, base, "cpu", **options,
    )  # fmt: skip
    return table.record.to_json()


def values(record: dict[str, Any], metric: str, **where: Any) -> list[float]:
    rows = [row for row in record["rows"] if row["metric"] == metric]
    return [row["value"] for row in rows if all(row[name] == value for name, value in where.items())]
