"""Diversity: how much a variant's pictures of one class prompt differ, as DIV of DreamBooth (Ruiz et al. 2023, 4.4)."""

from __future__ import annotations

from limner.measuring import base_mean, diversities
from limner.metrics.inputs import Measured, MeasureInputs, WholeView
from limner.metrics.metric import Metric, OfWholePictures, Words


def measure_diversity(view: WholeView) -> Measured | None:
    """Of pictures whose prompts ask for the class alone, where a variant has several of one prompt."""
    of_class = view.inputs.indices_where(view.inputs.of_class)
    by_index = diversities(view.inputs.chosen(of_class), view.whole[of_class])
    if not by_index:
        return None
    indices, values = [of_class[index] for index in by_index], list(by_index.values())
    note = (
        "mean of 1 - cosine to the other pictures of the same class prompt and variant; floor: the base's; below "
        "it the class has become poorer"
    )
    return Measured(indices, values, note, floor=base_mean(view.inputs.chosen(indices), values))


def _no_prompts(inputs: MeasureInputs) -> str:
    if not inputs.kinds.without_subject or inputs.kinds.of_class:
        return ""  # drift says it, or there are some
    return "diversity is not measured: no prompt asks for {class_noun} alone"


DIVERSITY = Metric(
    "diversity",
    OfWholePictures(measure_diversity),
    {
        "en": Words(
            "Diversity",
            "diversity",
            "diversity",
            "how far a variant’s pictures of one class prompt lie from each other. Below the base’s, the class has "
            "become poorer.",
        ),
        "ru": Words(
            "Разнообразие",
            "разнообразие",
            "разнообразие",
            "насколько изображения одного варианта по одному запросу с названием класса отличаются друг от друга. "
            "Если оно ниже, чем у базовой модели, класс обеднел.",
        ),
    },
    better="higher",
    unit="1 − cosine",
    pictures="prompts",
    compared=True,
    unmeasured=_no_prompts,
)
