"""A made-up run folder, written through the real artefact functions, with drawn pictures and drawn scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.artifacts import (
    AdapterFolder,
    Artifact,
    Cell,
    Manifest,
    PhotoSet,
    RenderSet,
    ScoreTable,
    file_hashes,
    write_manifest,
    write_scores,
)
from limner.artifacts.integrity import with_hash
from limner.config import Study, VariantRun, expand_variants, resolve_study
from limner.records import (
    AdapterRecord,
    ArtifactRecord,
    ControlReferenceRecord,
    MachineRecord,
    PhotoSetRecord,
    RefusedPhoto,
    ScoresRecord,
    StartRecord,
    StepRecord,
)
from tests.drawn import draw_subject
from tests.recorded import grid, photo

LIKENESS, FIDELITY, COPYING = "likeness/efficientnet-lite0", "prompt_fidelity/base", "copying/efficientnet-lite0"
DRIFT, DIVERSITY, CLASS_LIKENESS = (f"{role}/efficientnet-lite0" for role in ("drift", "diversity", "class_likeness"))
Draw = Callable[[tuple[int, int], int], Image.Image]
MADE = {
    "time": "2026-01-02T03:04:05+0000",
    "platform": "Linux",
    "python": "3.11.0",
    "processors": 2,
    "versions": {"limner": "0.1.0", "torch": "2.13.0"},
}
RAW: dict[str, Any] = {
    "subject": {"photos": "photos", "class_noun": "cat", "consent": "own photos"},
    "variants": [
        {"method": "full", "name": "dreambooth", "steps": 40},
        {"method": "lora", "rank": [1, 4, 16], "steps": 30},
    ],
    "render": {
        "size": [128, 96],
        "negative_prompt": "blurry",
        "prompts": [
            {"name": "garden", "prompt": "photo of {subject}, in a garden"},
            {"name": "pencil", "prompt": "a pencil sketch of {subject}"},
        ],
    },
    "control": {
        "references": [{"name": "lady", "image": "lady.png"}, {"name": "lord", "image": "lord.png"}],
    },
}
MANY: dict[str, Any] = {  # ten columns, three training seeds, three conditioning scales, prompts without the subject
    "subject": {"photos": "photos", "class_noun": "cat", "consent": "own photos"},
    "variants": [
        {"method": "full", "name": "dreambooth", "steps": 40, "training_seeds": [0, 1, 2]},
        {"method": "lora", "rank": [1, 4, 16, 128], "steps": 30, "training_seeds": [0, 1, 2]},
    ],
    "render": {
        "size": [96, 96],
        "seeds": [7, 21],
        "lora_scales": [1.0, 0.6],
        "prompts": [
            {"name": "garden", "prompt": "photo of {subject}, in a garden"},
            {"name": "pencil", "prompt": "a pencil sketch of {subject}"},
            {"name": "class", "prompt": "a photo of a {class_noun}"},
        ],
    },
    "control": {
        "conditioning_scale": [0.4, 0.7, 1.0],
        "references": [{"name": "lady", "image": "lady.png"}, {"name": "lord", "image": "lord.png"}],
    },
}


@dataclass(frozen=True)
class MadeUpRun:
    """All that the report stage takes."""

    run: Path
    study: Study
    photo_set: PhotoSet
    adapters: list[AdapterFolder]
    renders: RenderSet
    controls: RenderSet | None
    scores: ScoreTable

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (
            self.run,
            self.study,
            self.photo_set,
            self.adapters,
            self.renders,
            self.controls,
            self.scores,
        )


def write_run(
    run: Path,
    *,
    raw: dict[str, Any] | None = None,
    photos: int = 5,
    photo_size: int = 96,
    draw: Draw = draw_subject,
    scored: bool = True,
    logged: bool = True,
    flagged: bool | None = None,
) -> MadeUpRun:
    """Write a whole run; `scored` False leaves every value None, `flagged` is set on the first cell."""
    study = resolve_study(raw or RAW, {})
    runs = expand_variants(study.variants)
    photo_set = _write_photos(run / "photos", photos, photo_size, draw)
    adapters = [_write_adapter(run / "adapters" / r.label, r, logged) for r in runs]
    cells = _render_cells(study, runs)
    cells = [c.model_copy(update={"flagged": flagged and c is cells[0]}) for c in cells] if flagged else cells
    renders = _write_set(run / "renders", "render", cells, draw)
    controls = _write_controls(run / "control", study, runs, draw) if study.control else None
    all_cells = cells + (controls.cells if controls else [])
    scores = _write_scores(run / "scores.json", all_cells, photos, scored)
    return MadeUpRun(run, study, photo_set, adapters, renders, controls, scores)


def _finish(folder: Path, stage: str, record: ArtifactRecord, seconds: float, settings: Any = None) -> None:
    made = MachineRecord(**MADE, seconds=seconds)
    write_manifest(folder, Manifest(stage, 1, stage * 4, settings or {}, {}, file_hashes(folder), made, record))


def _write_photos(folder: Path, count: int, size: int, draw: Draw) -> PhotoSet:
    folder.mkdir(parents=True)
    records = []
    for index in range(count):
        draw((size, size), index).save(folder / f"{index:04}.png")
        records.append(photo(f"{index:04}.png", source=f"IMG_{2310 + index}.jpg", focus="head"))
    refused = [RefusedPhoto(source="broken.jpg", reason="cannot be read as a picture")]
    _finish(folder, "prepare", PhotoSetRecord(photos=records, refused=refused), 1.5, {"size_px": size})
    return PhotoSet(folder)


def _write_adapter(folder: Path, run: VariantRun, logged: bool) -> AdapterFolder:
    folder.mkdir(parents=True)
    full = run.rank is None
    name = "unet.safetensors" if full else "pytorch_lora_weights.safetensors"
    (folder / name).write_bytes(run.label.encode())
    rng = np.random.default_rng(run.rank or 0)
    steps = run.variant.steps
    log = [
        StepRecord(
            step=step,
            loss=float(0.12 + 0.15 * np.exp(-4 * step / steps) + abs(rng.normal(0, 0.09))),
            instance_loss=0.1,
            prior_loss=None,
            learning_rate=run.variant.learning_rate * min(1.0, step / (steps / 10)),
            seconds=0.4,
        )
        for step in range(1, steps + 1, max(1, steps // 200))
    ]
    record = AdapterRecord(
        label=run.label, method=run.method.name, training_seed=run.training_seed, steps=steps,
        method_record=run.method.resolved(run),
        start_from=StartRecord(label=run.start_from, content_hash="0") if run.start_from else None,
        trainable_parameters=11_200_000 if full else 90_000 * (run.rank or 1), seconds=steps * 0.4,
        seconds_per_step=0.4, loss=log[-1].loss, log=log if logged else [],
    )  # fmt: skip
    _finish(folder, "train", record, steps * 0.4)
    return AdapterFolder(folder)


def _render_cells(study: Study, runs: list[VariantRun]) -> list[Cell]:
    settings, cells = study.render, []
    for run in [None, *runs]:
        scales = settings.lora_scales if run and run.rank else [None]
        for scale in scales:
            label = (run.label if run else "base") + ("" if scale in (None, 1.0) else f"x{scale:g}")
            for prompt in settings.prompts:
                for seed in settings.seeds:
                    for index in range(settings.images_per_seed):
                        file = f"{label}/{prompt.name}/{seed}{f'-{index}' if index else ''}.png"
                        text = study.subject.fill(prompt.prompt, as_class=run is None)
                        cells.append(
                            Cell(
                                variant=label, prompt=prompt.name, seed=seed, image_index=index, file=file,
                                text=text, negative_prompt=settings.negative_prompt,
                                training_seed=run.training_seed if run else None,
                                lora_scale=scale, size=prompt.size or settings.size,
                            )
                        )  # fmt: skip
    return cells


def _write_set(
    folder: Path, stage: str, cells: list[Cell], draw: Draw, references: list[ControlReferenceRecord] | None = None
) -> RenderSet:
    for index, cell in enumerate(cells):
        (folder / cell.file).parent.mkdir(parents=True, exist_ok=True)
        draw(cell.size, index).save(folder / cell.file)
    _finish(folder, stage, grid(cells, references), 31.0)
    return RenderSet(folder)


def _write_controls(folder: Path, study: Study, runs: list[VariantRun], draw: Draw) -> RenderSet:
    assert study.control
    settings, cells, references = study.control, [], []
    (folder / "conditioning").mkdir(parents=True)
    for index, reference in enumerate(settings.references):
        size = reference.size or (80, 120)
        draw(size, 100 + index).save(folder / "conditioning" / f"{reference.name}.png")
        edges = draw(size, 100 + index).convert("L").point(lambda level: 255 * (90 < level < 110))
        edges.save(folder / "conditioning" / f"{reference.name}-canny.png")
        record = ControlReferenceRecord(
            name=reference.name,
            image=f"conditioning/{reference.name}.png",
            canny=f"conditioning/{reference.name}-canny.png",
            size=size,
        )
        references.append(record)
        for label, run in [("base", None), *((run.label, run) for run in runs)]:
            for seed in settings.seeds:
                for scale in settings.conditioning_scale:
                    at = f"@{scale:g}" if len(settings.conditioning_scale) > 1 else ""
                    text = study.subject.fill(settings.prompt, as_class=run is None)
                    cells.append(
                        Cell(
                            variant=label, prompt=text, seed=seed, image_index=0, text=text,
                            file=f"{label}/{reference.name}{at}/{seed}.png", reference=reference.name,
                            conditioning_scale=scale, training_seed=run.training_seed if run else None, size=size,
                        )
                    )  # fmt: skip
    return _write_set(folder, "control", cells, draw, references)


def _write_scores(path: Path, cells: list[Cell], photos: int, scored: bool) -> ScoreTable:
    rows: list[dict[str, Any]] = []
    nearest: list[dict[str, Any]] = []
    rng, levels = np.random.default_rng(7), _rises(cells)
    for cell in cells:
        row = {
            name: getattr(cell, name)
            for name in ("variant", "prompt", "reference", "seed", "image_index", "training_seed", "conditioning_scale")
        }
        for metric, value in _drawn(cell, levels[cell.variant], rng).items():
            if (metric == COPYING and photos < 4) or (metric == FIDELITY and not scored):
                continue  # as the measure stage does: no row where there is no photo to compare with, or no model
            rows.append({**row, "metric": metric, "value": float(value) if scored else None})
            if metric == COPYING:
                nearest.append({**row, "metric": metric, "photo": f"{cell.seed % photos:04}.png"})
        if cell.variant != "base":
            rows.append({**row, "metric": LIKENESS.replace("likeness", "likeness_gain"), "value": 0.123456})
    known = scored and photos >= 4
    anchors = {
        LIKENESS: {
            "ceiling": 0.78 if known else None,
            "floor": 0.31 if scored else None,
            "note": "mean cosine of heads" if known else "ceiling: not measurable with so few photos; 4 are needed",
        },
        COPYING: {"ceiling": 0.9 if known else None, "floor": 0.4 if known else None, "note": ""},
        FIDELITY: {"ceiling": None, "floor": None, "note": "cosine of picture and prompt"},
    }
    anchors |= {m: {"ceiling": None, "floor": 0.0, "note": ""} for m in (DRIFT,) if any(r["metric"] == m for r in rows)}
    used = {"status": "used", "note": ""}
    models = {
        LIKENESS: {"name": "efficientnet-lite0", **used},
        COPYING: {"name": "efficientnet-lite0", **used},
        FIDELITY: {"name": "base", **used} if scored else {"name": "base", "status": "left out", "note": "not there"},
    }
    if any(cell.reference for cell in cells):
        models["edge_agreement"] = {"name": "Canny", "status": "used", "note": "thresholds 100 and 200"}
    record = {
        "rows": rows, "nearest_photos": nearest, "anchors": anchors, "models": models,
        "notes": ["likeness is seen on head crops"],
        "control": [],
        "manifest": {
            "stage": "measure", "version": 1, "record_version": 2, "key": "k", "settings": {}, "inputs": {},
            "made": {**MADE, "seconds": 12.0},
        },
    }  # fmt: skip
    write_scores(path, ScoresRecord.from_json(record))
    return ScoreTable(path)


def _rises(cells: list[Cell]) -> dict[str, float]:
    """How far each variant has come from the base: the first one all the way, LoRAs with their rank, with luck."""
    rng, names = np.random.default_rng(8), list(dict.fromkeys(cell.variant for cell in cells))
    stems = list(dict.fromkeys(name.partition("@")[0] for name in names))
    places = {name: stems.index(name.partition("@")[0]) for name in names}
    top = max(places.values())
    rises = {n: 0.0 if n == "base" else 1.0 if place == 1 else place / (top + 1) for n, place in places.items()}
    return {n: rise * (0.6 if "x" in n.partition("@")[2] else 1.0) + rng.normal(0, 0.03) for n, rise in rises.items()}


def _drawn(cell: Cell, rise: float, rng: np.random.Generator) -> dict[str, float]:
    likeness, luck = 0.33 + 0.38 * rise, rng.normal(0, 0.04, 4)
    copying = {COPYING: 0.4 + 0.5 * rise + luck[1]}
    fidelity = {FIDELITY: 0.292 - 0.03 * rise + luck[2] / 5}
    if cell.reference:
        scale = cell.conditioning_scale or 1.0
        return {
            LIKENESS: likeness - 0.1 * scale + luck[0], **fidelity, **copying,
            "edge_agreement": 0.4 + 0.35 * scale - 0.1 * rise + luck[3],
        }  # fmt: skip
    if "sks" in cell.text or cell.prompt in ("garden", "pencil", "nasty", "p"):
        return {LIKENESS: likeness + luck[0], **fidelity, **copying}
    drift = {} if cell.variant == "base" else {DRIFT: 0.1 + 0.4 * rise + abs(luck[3])}
    return (
        fidelity | copying | drift | {DIVERSITY: 0.5 - 0.2 * rise + luck[3], CLASS_LIKENESS: 0.3 + 0.2 * rise + luck[0]}
    )


def rewrite_manifest(artifact: Artifact, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest on disk, as another run of its stage would."""
    path = artifact.folder / "manifest.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(with_hash(record)))
