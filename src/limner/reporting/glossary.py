"""What each score is, in English and Russian."""

from __future__ import annotations

from limner.reporting.language import Code
from limner.statistics.conclusions import (
    CLASS_LIKENESS,
    COPYING,
    DIVERSITY,
    DRIFT,
    EDGES,
    LIKENESS,
    PROMPT_FIDELITY,
)

# name and meaning of each score, in the order in which they are told
GLOSSARY: dict[str, dict[Code, tuple[str, str]]] = {
    LIKENESS: {
        "en": (
            "Likeness",
            "how near an image embedding of the picture lies to those of the subject’s photos. Higher is more alike.",
        ),
        "ru": (
            "Сходство",
            "насколько эмбеддинг изображения близок к эмбеддингам фотографий объекта. Чем выше, тем больше похоже.",
        ),
    },
    "gain": {
        "en": ("Gain", "likeness less that of the base’s picture of the same prompt, seed and image, then averaged."),
        "ru": (
            "Прирост",
            "сходство за вычетом сходства изображения базовой модели с тем же запросом и начальным шумом, в среднем.",
        ),
    },
    "share": {
        "en": (
            "Share of the span",
            "where the mean likeness lies between floor (the base’s pictures) and ceiling "
            "(real photos of the subject against each other).",
        ),
        "ru": (
            "Доля размаха",
            "место среднего сходства между нижним ориентиром (изображения базовой модели) и верхним "
            "(настоящие фотографии объекта в сравнении друг с другом).",
        ),
    },
    PROMPT_FIDELITY: {
        "en": (
            "Prompt fidelity",
            "how near the picture lies to its own prompt in CLIP’s shared space. Higher obeys more.",
        ),
        "ru": (
            "Соответствие запросу",
            "насколько изображение близко к своему текстовому запросу в общем пространстве CLIP. Чем выше, тем точнее.",
        ),
    },
    COPYING: {
        "en": ("Copying", "how far the picture repeats one training photo. High values are a warning, not a merit."),
        "ru": (
            "Копирование",
            "насколько изображение повторяет одну из обучающих фотографий. Высокие значения — предупреждение, а не "
            "достоинство.",
        ),
    },
    CLASS_LIKENESS: {
        "en": (
            "Class likeness",
            "the likeness of pictures whose prompt names the class alone. Above the base’s, the class became the "
            "subject.",
        ),
        "ru": (
            "Сходство класса с объектом",
            "сходство изображений, запрос которых называет только класс. Если оно выше, чем у базовой модели, объект "
            "вытеснил класс.",
        ),
    },
    DRIFT: {
        "en": (
            "Drift",
            "how far a picture whose prompt leaves the subject out has moved from the base’s picture of the same "
            "prompt and seed. Lower is better.",
        ),
        "ru": (
            "Дрейф",
            "насколько изображение по запросу без объекта отошло от изображения базовой модели с тем же запросом и "
            "начальным шумом. Чем ниже, тем лучше.",
        ),
    },
    DIVERSITY: {
        "en": (
            "Diversity",
            "how far a variant’s pictures of one class prompt lie from each other. Below the base’s, the class has "
            "become poorer.",
        ),
        "ru": (
            "Разнообразие",
            "насколько изображения одного варианта по одному запросу с названием класса отличаются друг от друга. Если "
            "оно ниже, чем у базовой модели, класс обеднел.",
        ),
    },
    EDGES: {
        "en": (
            "Edge agreement",
            "how far the picture’s edges are those of its conditioning picture. Higher is closer.",
        ),
        "ru": (
            "Согласие контуров",
            "насколько контуры изображения совпадают с заданными контурами. Чем выше, тем ближе.",
        ),
    },
    "training seed": {
        "en": (
            "Training seed",
            "one training with its own draws of data, noise and timesteps. Intervals are over training seeds, "
            "not over pictures.",
        ),
        "ru": (
            "Запуск обучения",
            "одно обучение со своими случайными данными, шумом и шагами (training seed). Интервалы построены по "
            "запускам, а не по изображениям.",
        ),
    },
}
