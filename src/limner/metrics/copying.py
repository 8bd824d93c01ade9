"""Copying: does a picture repeat a training photo?"""

from __future__ import annotations

from limner.measuring import DECIMALS, base_mean, photo_similarities, photo_spread, share_above
from limner.metrics.inputs import Measured, WholeView, too_few
from limner.metrics.metric import LimitWords, Metric, OfWholePictures, Words

NOTE = (
    "cosine to the nearest training photo, mirrored ones and parts included; floor: the base's renders; ceiling: "
    "the nearest that two real photos come; a render above it is nearer to a photo than any photo to another"
)


def measure_copying(view: WholeView) -> Measured:
    """Whole pictures against crops of training photos, because what is copied is the photo, background and all."""
    photos = view.inputs.photo_set.training_files
    spread = photo_spread(view.views)
    if spread is None:
        note = too_few("copying", len(photos))
        return Measured([], [], note, notes=[note])
    most, nearest = photo_similarities(view.whole, view.views).max(1)
    values = most.tolist()
    return Measured(
        range(len(values)),
        values,
        NOTE,
        floor=base_mean(view.inputs.pictures, values),
        ceiling=spread.limit,
        photos=[photos[index].name for index in nearest.tolist()],
        anchors={
            "photo_similarities": [round(value, DECIMALS) for value in spread.nearest],
            "share_above": share_above(view.inputs.pictures, values, spread.limit),
        },
    )


COPYING = Metric(
    "copying",
    OfWholePictures(measure_copying),
    {
        "en": Words(
            "Copying",
            "copying",
            "copying",
            "how far the picture repeats one training photo. High values are a warning, not a merit.",
        ),
        "ru": Words(
            "Копирование",
            "копирование",
            "копирование",
            "насколько изображение повторяет одну из обучающих фотографий. Высокие значения — предупреждение, а не "
            "достоинство.",
        ),
    },
    better="lower",
    unit="cosine",
    shown=frozenset({"tables", "extremes", "pooled"}),
    leads=True,
    limit={
        "en": LimitWords(
            some="Warning of copying: nearer to a training photo than any two photos are to each other: "
            "{figures}{seen}.",
            none="No picture of a variant is nearer to a training photo than any two photos are to each other{seen}.",
        ),
        "ru": LimitWords(
            some="Признаки копирования: ближе к обучающей фотографии, чем любые две фотографии друг к другу, "
            "находятся {figures}{seen}.",
            none="Ни одно изображение вариантов не ближе к обучающей фотографии, чем любые две фотографии друг к "
            "другу{seen}.",
        ),
    },
)
