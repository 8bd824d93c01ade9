"""Likeness gain: the likeness of a picture less that of the base's picture of the same prompt and seed."""

from __future__ import annotations

from limner.measuring import pairs_with_base
from limner.metrics.inputs import Measured, ModelView
from limner.metrics.likeness import likeness_indices, likeness_values
from limner.metrics.metric import Metric, OfImageModel, Words


def measure_likeness_gain(view: ModelView) -> Measured:
    """Of every picture that the base has a counterpart to."""
    indices = likeness_indices(view)
    values = likeness_values(view).tolist()
    pairs = [(indices[ours], indices[theirs]) for ours, theirs in pairs_with_base(view.inputs.chosen(indices))]
    return Measured(
        [ours for ours, _ in pairs],
        [values[ours] - values[theirs] for ours, theirs in pairs],
        "likeness minus that of the base's render of the same prompt and seed",
        floor=0.0,
    )


LIKENESS_GAIN = Metric(
    "likeness_gain",
    OfImageModel(measure_likeness_gain),
    {
        "en": Words("Likeness gain", "gain in likeness", "gain", "likeness less that of the base’s picture."),
        "ru": Words("Прирост сходства", "прирост сходства", "прирост", "сходство за вычетом сходства базовой модели."),
    },
    better="higher",
    unit="cosine",
    shown=frozenset(),  # the report takes gains itself and shows them beside likeness
)
