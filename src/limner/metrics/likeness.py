"""Likeness: subject fidelity, as DreamBench measures it (Ruiz et al. 2023, section 4.2)."""

from __future__ import annotations

from torch import Tensor

from limner.measuring import base_mean, ceiling, likeness, likeness_like_for_like
from limner.metrics.inputs import Measured, ModelView, too_few
from limner.metrics.metric import Metric, OfImageModel, Words
from limner.metrics.power import measure_power
from limner.records import WithoutFace

FURTHER_EN = (
    ("Gain", "likeness less that of the base’s picture of the same prompt, seed and image, then averaged."),
    (
        "Share of the span",
        "where the mean likeness lies between floor (the base’s pictures) and ceiling "
        "(real photos of the subject against each other).",
    ),
)
FURTHER_RU = (
    (
        "Прирост",
        "сходство за вычетом сходства изображения базовой модели с тем же запросом и начальным шумом, в среднем.",
    ),
    (
        "Доля размаха",
        "место среднего сходства между нижним ориентиром (изображения базовой модели) и верхним "
        "(настоящие фотографии объекта в сравнении друг с другом).",
    ),
)


def likeness_values(view: ModelView) -> Tensor:
    """Mean cosine of every picture to the photos: (N,). Heads to heads, pictures without one to whole photos."""
    renders = view.renders
    if view.crop.leaves_out:
        return likeness(renders.vectors, view.photo_vectors)
    return likeness_like_for_like(renders.vectors, renders.found, view.photo_vectors, view.whole_photos)


def likeness_indices(view: ModelView) -> list[int]:
    """The pictures that likeness is asked of: those whose prompts name the subject."""
    return view.inputs.indices_where(lambda index: view.sees(index) and view.inputs.names_subject(index))


def measure_likeness(view: ModelView) -> Measured:
    """Likeness of the pictures that ask for the subject, beside the base's and beside what real photos reach."""
    values, indices = likeness_values(view).tolist(), likeness_indices(view)
    chosen = [values[index] for index in indices]
    count, top = len(view.photo_vectors), ceiling(view.photo_vectors)
    anchors = {"photos": count, "held_out": view.inputs.compares_held_out, **measure_power(view)}
    if view.crop.leaves_out:
        has_face = {"photos": view.photos.found, "renders": view.renders.found}
        anchors["without_face"] = WithoutFace(**{name: int((~each).sum()) for name, each in has_face.items()})
    return Measured(
        indices,
        chosen,
        _note(view, count) if top is not None else too_few("ceiling", count),
        floor=base_mean(view.inputs.chosen(indices), chosen),
        ceiling=top,
        anchors=anchors,
    )


def _note(view: ModelView, count: int) -> str:
    against = "held-out " if view.inputs.compares_held_out else ""
    return (
        f"mean cosine of {view.compared} to {count} {against}photos; floor: the base's renders; "
        "ceiling: each of these photos against the others"
    )


LIKENESS = Metric(
    "likeness",
    OfImageModel(measure_likeness),
    {
        "en": Words(
            "Likeness",
            "likeness",
            "likeness",
            "how near an image embedding of the picture lies to those of the subject’s photos. Higher is more alike.",
            more="more alike",
            further=FURTHER_EN,
        ),
        "ru": Words(
            "Сходство",
            "сходство",
            "сходство",
            "насколько эмбеддинг изображения близок к эмбеддингам фотографий объекта. Чем выше, тем больше похоже.",
            more="больше похоже",
            further=FURTHER_RU,
        ),
    },
    better="higher",
    unit="cosine",
    shown=frozenset({"tables", "pictures", "trade-off y", "rank", "control", "extremes", "pooled"}),
    compared=True,
    leads=True,
    required=True,
    has_gain=True,
    needs_ceiling=True,
    pooled_prompts="subject",
)
