"""Class likeness: has the class become the subject? As PRES of DreamBooth (Ruiz et al. 2023, section 4.4)."""

from __future__ import annotations

from limner.measuring import base_mean
from limner.metrics.inputs import Measured, ModelView
from limner.metrics.likeness import likeness_values
from limner.metrics.metric import Metric, OfImageModel, Words


def measure_class_likeness(view: ModelView) -> Measured | None:
    """Likeness of the pictures whose prompts ask for the class alone, beside what the base scores."""
    indices = view.inputs.indices_where(lambda index: view.sees(index) and view.inputs.of_class(index))
    if not indices:
        return None
    values = likeness_values(view).tolist()
    chosen = [values[index] for index in indices]
    note = "likeness of what was asked for by the class noun alone; above the floor, the class became the subject"
    return Measured(indices, chosen, note, floor=base_mean(view.inputs.chosen(indices), chosen))


CLASS_LIKENESS = Metric(
    "class_likeness",
    OfImageModel(measure_class_likeness),
    {
        "en": Words(
            "Class likeness",
            "class likeness",
            "class",
            "the likeness of pictures whose prompt names the class alone. Above the base’s, the class became the "
            "subject.",
        ),
        "ru": Words(
            "Сходство класса с объектом",
            "сходство класса с объектом",
            "класс",
            "сходство изображений, запрос которых называет только класс. Если оно выше, чем у базовой модели, объект "
            "вытеснил класс.",
        ),
    },
    better="lower",
    unit="cosine",
    pictures="prompts",
    compared=True,
    anchored_by="likeness",
)
