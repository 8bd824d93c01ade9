"""What each score is, in English and Russian: each metric's own words, and what is not about one metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from limner.metrics import Code, Metric

TRAINING_SEED: dict[Code, tuple[str, str]] = {
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
}


def meanings(metrics: Sequence[Metric], code: Code) -> Iterator[tuple[str, str]]:
    """Name and meaning of each of these metrics and of what stands beside them; nothing where there are none."""
    for metric in metrics:
        words = metric.words[code]
        yield words.title, words.meaning
        yield from words.further
    if metrics:
        yield TRAINING_SEED[code]
