"""Edge agreement: does a conditioned picture keep the edges it was given?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limner.embeddings import read_image
from limner.errors import LimnerError
from limner.measuring import canny_edges, edge_agreement
from limner.metrics.inputs import Measured, MeasureInputs
from limner.metrics.metric import Metric, OfPictures, Words


def measure_edge_agreement(inputs: MeasureInputs) -> Measured | None:
    """Of all conditioned pictures, with the thresholds that their conditioning images were made with."""
    if inputs.controls is None:
        return None
    low, high = (int(inputs.controls.manifest.settings[name]) for name in ("canny_low", "canny_high"))
    folder, references = inputs.controls.folder, inputs.controls.references
    conditioning_edges = {row.name: read_image(folder / row.canny)[..., 0] > 127 for row in references}
    indices = inputs.indices_where(lambda index: inputs.pictures[index].cell.reference is not None)
    values = []
    with inputs.progress.task("measure", len(indices), "edges") as advance:
        for picture in inputs.chosen(indices):
            edges = canny_edges(read_image(picture.file), low, high)
            values.append(_agreement(edges, conditioning_edges[str(picture.cell.reference)], picture.file))
            advance(1)
    return Measured(
        indices,
        values,
        "F1 of edges within 2 px; ceiling: every edge kept, none added",
        ceiling=1.0,
        model="Canny",
        model_note=f"thresholds {low} and {high}, F1 within 2 px",
    )


def _agreement(edges: np.ndarray, conditioning_edges: np.ndarray, file: Path) -> float:
    if edges.shape != conditioning_edges.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (edges.shape, conditioning_edges.shape)]
        raise LimnerError(
            f"{file} is {sizes[0]} and its conditioning image {sizes[1]}; remove the control folder and run again"
        )
    return edge_agreement(edges, conditioning_edges)


EDGE_AGREEMENT = Metric(
    "edge_agreement",
    OfPictures(measure_edge_agreement),
    {
        "en": Words(
            "Edge agreement",
            "edge agreement",
            "edges",
            "how far the picture’s edges are those of its conditioning picture. Higher is closer.",
        ),
        "ru": Words(
            "Согласие контуров",
            "согласие контуров",
            "контуры",
            "насколько контуры изображения совпадают с заданными контурами. Чем выше, тем ближе.",
        ),
    },
    better="higher",
    unit="F1",
    shown=frozenset({"tables", "pictures", "control"}),
    pictures="references",
    compared=True,
)
