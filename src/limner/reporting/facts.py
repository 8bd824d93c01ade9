"""Collects what the reports say: facts with names, ready for a template, and the pictures that go with them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import limner
from limner.artifacts import AdapterFolder, Cell, PhotoSet, RenderSet, ScoreTable
from limner.config import Study
from limner.metrics import Metric, all_metrics, metric_named, metrics_shown, role_of
from limner.reporting import words
from limner.reporting.charts import Chart
from limner.reporting.columns import Column, make_columns
from limner.reporting.comparison import first_pair
from limner.reporting.conclusions import concluded, passages, prompts_left_out
from limner.reporting.curves import training_curves
from limner.reporting.extremes import extremes
from limner.reporting.findings import (
    BASE_MODEL,
    ColumnScores,
    PictureScores,
    metric_title,
)
from limner.reporting.pictures import Gallery
from limner.reporting.plates import make_plate
from limner.reporting.rank_chart import rank_chart
from limner.reporting.record import (
    loading_lines,
    machines,
    read_origins,
    read_rank_notices,
    settings_tables,
    timings,
)
from limner.reporting.scorecard import bars_of, control_metrics, scorecards, side_by_side
from limner.reporting.squares import Square, compared_line, square_in
from limner.reporting.trade_off import trade_off_chart


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report is written from."""

    run: Path
    study: Study
    photo_set: PhotoSet
    adapters: Sequence[AdapterFolder]
    renders: RenderSet
    controls: RenderSet | None
    scores: ScoreTable

    @property
    def artifacts(self) -> list[tuple[str, Any]]:
        """The folders that went in, named, in the corridor's order."""
        named = [("photos", self.photo_set), *((a.label, a) for a in self.adapters), ("renders", self.renders)]
        return [*named, ("control", self.controls)] if self.controls else named


def collect(inputs: ReportInputs, gallery: Gallery) -> dict[str, Any]:
    """The facts both reports are written from; the pictures they show go into `gallery`."""
    study, scores = inputs.study, PictureScores(inputs.scores)
    cells = [*inputs.renders.cells, *(inputs.controls.cells if inputs.controls else [])]
    columns = make_columns(study, cells)
    photos = [
        photo.model_copy(update={"file": gallery.add(file, f"photos/{file.name}")})
        for photo, file in zip(inputs.photo_set.photos, inputs.photo_set.files, strict=True)
    ]
    plate = make_plate(inputs.renders, columns, scores, gallery, "renders")
    control = make_plate(inputs.controls, columns, scores, gallery, "control") if inputs.controls else None
    findings = scores.findings(columns, inputs.renders.cells)
    cards = scorecards(control, columns, inputs.controls.cells, scores) if control and inputs.controls else []
    conclusions = concluded(study, columns, scores)
    left_out = prompts_left_out(conclusions, scores.first_shown("trade-off y"))
    fit = [cell for cell in inputs.renders.cells if cell.prompt not in left_out]
    plates = [plate, *([control] if control else [])]
    lines = timings(inputs.artifacts, inputs.run, inputs.scores)
    known = [line.seconds for line in lines if line.seconds is not None]
    return {
        "study": study,
        "subject": study.subject,
        "base_name": _last_part(study.base.model),
        "date": time.strftime("%-d %B %Y") if time.strftime("%-d").isdigit() else time.strftime("%d %B %Y"),
        "version": limner.__version__,
        "run_name": inputs.run.resolve().name,
        "columns": columns,
        "photos": photos,
        "photo_squares": [_photo_square(file, scores) for file in inputs.photo_set.files],
        "refused": inputs.photo_set.refused,
        "plate": plate,
        "control": control,
        "compared": first_pair(plate) or (first_pair(control) if control else None),
        "scorecards": cards,
        "scorecard_rows": side_by_side(cards),
        "scorecard_bars": bars_of(cards),
        "extremes": extremes(inputs.renders, fit, columns, scores, gallery, photos),
        "left_out": sorted(left_out),
        "standfirst": words.standfirst(study, inputs.photo_set, sum(p.pictures for p in plates)),
        "passages": passages(study, conclusions, scores),
        "seeds": words.training_seeds(study),
        "conclusions_lead": words.conclusions_lead(study),
        "score_tables": _score_tables(scores, columns, findings, inputs.controls),
        "anchors": words.anchor_lines(scores, _titles(scores)),
        "charts": _charts(columns, inputs.renders.cells, fit, scores),
        "curves": training_curves(inputs.adapters, columns),
        "settings": settings_tables(study, read_origins(inputs.run)),
        "timings": lines,
        "longest": max(known, default=0.0),
        "total_seconds": sum(known) if known else None,
        "machines": machines(inputs.run, inputs.artifacts, inputs.scores),
        "notes": [words.sentence(note) for note in [*read_rank_notices(inputs.run), *scores.record.notes]],
        "models": {m: scores.record.models[m] for m in scores.metrics if m in scores.record.models},
        "titles": _titles(scores),
        "seen_by": [(each.words["en"].title, _model_name(scores, each)) for each in _required()],
        "chart_needs": _chart_needs(),
        "beneath": _beneath(),
        "control_titles": [metric.words["en"].title for metric in control_metrics()],
        "safety": words.safety_line(plates),
        "compared_line": compared_line(scores),
        "adapters": [
            {"label": a.label, "record": a.record, "code": loading_lines(a, study.base.model, inputs.adapters)}
            for a in inputs.adapters
        ],
    }


def _charts(
    columns: Sequence[Column], cells: Sequence[Cell], fit: Sequence[Cell], scores: PictureScores
) -> list[Chart]:
    drawn = (trade_off_chart(columns, cells, fit, scores), rank_chart(columns, fit, scores))
    return [chart for chart in drawn if chart]


def _photo_square(file: Path, scores: PictureScores) -> Square | None:
    with Image.open(file) as photo:
        return square_in(scores.photo_squares.get(file.name), photo.size)


def _required() -> list[Metric]:
    return [metric for metric in all_metrics() if metric.required]


def _chart_needs() -> str:
    return " and ".join(metrics_shown(shown_at)[0].words["en"].noun for shown_at in ("trade-off y", "trade-off x"))


def _beneath() -> str:
    """What stands under the pictures of prompts."""
    shown = [metric for metric in metrics_shown("pictures") if metric.pictures != "references"]
    return ", ".join(m.words["en"].noun + (" (gain over the base)" if m.has_gain else "") for m in shown)


def _model_name(scores: PictureScores, measured: Metric) -> str:
    metric = scores.first(measured.name)
    model = scores.record.models.get(metric) if metric else None
    if not model or not any(row.metric == metric for row in scores.record.rows):
        return "no model"
    return "the base’s own CLIP pair" if model.name == BASE_MODEL else _last_part(model.name)


def _titles(scores: PictureScores) -> dict[str, str]:
    roles = [role_of(metric) for metric in scores.metrics]
    return {m: metric_title(m, several=roles.count(role_of(m)) > 1) for m in scores.metrics}


def _score_tables(
    scores: PictureScores, columns: Sequence[Column], findings: Sequence[ColumnScores], controls: RenderSet | None
) -> list[dict[str, Any]]:
    """The tables of scores: one for the prompts, one for each conditioning scale."""
    tables = [_score_table("Prompts", findings, scores, without="references")]
    scales = sorted({cell.conditioning_scale for cell in controls.cells}, key=str) if controls else []
    for scale in scales:
        cells = [cell for cell in controls.cells if cell.conditioning_scale == scale] if controls else []
        title = "References" if len(scales) == 1 else f"References, conditioning scale {scale:g}"
        tables.append(_score_table(title, scores.findings(columns, cells), scores, without="prompts"))
    return tables


def _score_table(title: str, findings: Sequence[ColumnScores], scores: PictureScores, without: str) -> dict[str, Any]:
    titles = _titles(scores)
    asked = [metric for metric in scores.metrics if metric_named(metric).pictures != without]
    measured = [metric for metric in asked if any(finding.values[metric] for finding in findings)]
    needed = [scores.first(metric.name) for metric in _required()]
    shown = list(dict.fromkeys([*(metric for metric in needed if metric), *measured]))
    return {
        "title": title,
        "with_gains": scores.with_gains,
        "metrics": [(metric, titles[metric]) for metric in shown],
        "findings": findings,
        "unmeasured": [titles[metric] for metric in asked if metric not in shown],
    }


def _last_part(model: str) -> str:
    return model if model.count("/") == 1 and not model.startswith((".", "/")) else Path(model).name
