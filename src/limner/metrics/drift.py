"""Drift: how far pictures that leave the subject out have moved from the base's."""

from __future__ import annotations

from limner.measuring import drift, pairs_with_base
from limner.metrics.inputs import Measured, MeasureInputs, WholeView
from limner.metrics.metric import Metric, OfWholePictures, Words


def measure_drift(view: WholeView) -> Measured | None:
    """Of pictures whose prompts leave the subject out and that the base has a counterpart to, for any method."""
    inputs = view.inputs
    indices = inputs.indices_where(lambda index: not inputs.names_subject(index))
    if not indices:
        return None
    pairs = [(indices[ours], indices[theirs]) for ours, theirs in pairs_with_base(inputs.chosen(indices))]
    ours, of_base = ([pair[side] for pair in pairs] for side in (0, 1))
    return Measured(
        ours,
        drift(view.whole[ours], view.whole[of_base]).tolist(),
        "1 - cosine of whole pictures to the base's of the same prompt and seed; 0: the base's own picture",
        floor=0.0,
        anchors={"class_prompts": inputs.kinds.of_class, "unrelated_prompts": inputs.kinds.unrelated},
    )


def _no_prompts(inputs: MeasureInputs) -> str:
    if inputs.kinds.without_subject:
        return ""
    return (
        "drift is not measured: every prompt names the subject; add a prompt with {class_noun} alone, and others "
        "that have nothing to do with it"
    )


DRIFT = Metric(
    "drift",
    OfWholePictures(measure_drift),
    {
        "en": Words(
            "Drift",
            "drift",
            "drift",
            "how far a picture whose prompt leaves the subject out has moved from the base’s picture of the same "
            "prompt and seed. Lower is better.",
        ),
        "ru": Words(
            "Дрейф",
            "дрейф",
            "дрейф",
            "насколько изображение по запросу без объекта отошло от изображения базовой модели с тем же запросом и "
            "начальным шумом. Чем ниже, тем лучше.",
        ),
    },
    better="lower",
    unit="1 − cosine",
    shown=frozenset({"tables", "pooled"}),
    pictures="prompts",
    compared=True,
    from_base=True,
    unmeasured=_no_prompts,
)
