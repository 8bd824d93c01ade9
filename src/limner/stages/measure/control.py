"""Edges of each conditioned picture against the edges it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limner.artifacts import RenderSet
from limner.embeddings import read_image
from limner.errors import LimnerError
from limner.measuring import canny_edges, edge_agreement
from limner.stages.measure.work import Work

EDGE_AGREEMENT = "edge_agreement"


def score_edges(work: Work, controls: RenderSet) -> None:
    """Rows `edge_agreement` for all conditioned pictures."""
    low, high = (int(controls.manifest.settings[name]) for name in ("canny_low", "canny_high"))
    references = controls.manifest.content["references"]
    given = {row["name"]: read_image(controls.folder / row["canny"])[..., 0] > 127 for row in references}
    conditioned = [picture for picture in work.pictures if picture.cell.reference is not None]
    values = []
    with work.progress.task("measure edges", len(conditioned)) as advance:
        for picture in conditioned:
            edges = canny_edges(read_image(picture.file), low, high)
            values.append(_agreement(edges, given[str(picture.cell.reference)], picture.file))
            advance(1)
    work.scores.use(EDGE_AGREEMENT, "Canny", f"thresholds {low} and {high}, F1 within 2 px")
    work.scores.add(EDGE_AGREEMENT, conditioned, values)
    work.scores.anchor(EDGE_AGREEMENT, None, 1.0, "F1 of edges within 2 px; ceiling: every edge kept, none added")


def _agreement(edges: np.ndarray, given: np.ndarray, file: Path) -> float:
    if edges.shape != given.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (edges.shape, given.shape)]
        raise LimnerError(
            f"{file} is {sizes[0]} and its conditioning image {sizes[1]}; remove the control folder and run again"
        )
    return edge_agreement(edges, given)
