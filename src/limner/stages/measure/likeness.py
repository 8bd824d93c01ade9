"""Likeness with its anchors, copying, drift and an embedding's power: what each image embedder has to say."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from limner.embeddings import WHOLE, EmbedderLocation, ImageEmbedder, view_crops
from limner.errors import InputError
from limner.measuring import (
    DECIMALS,
    base_mean,
    ceiling,
    gains,
    likeness,
    photo_similarities,
    photo_spread,
    share_above,
)
from limner.stages.measure.drift import score_drift
from limner.stages.measure.others import Others
from limner.stages.measure.power import measure_power
from limner.stages.measure.work import Advance, Work, there, too_few


def score_likeness(work: Work, places: dict[str, EmbedderLocation | str], others: Others) -> None:
    """All that image embedders measure, one after another; those that are not there are left out."""
    heads_noted = work.crop is WHOLE
    for name, place in places.items():
        metric = f"likeness/{name}"
        try:
            embedder = there(place).load_image(work.device)
        except InputError as error:
            work.leave_out(metric, name, str(error))
            continue
        photos, training = work.likeness_photos, work.photo_set.training_files
        total = 2 * len(work.pictures) + len(photos) + len(view_crops()) * len(training)
        with work.progress.task(f"measure likeness ({name})", total) as advance:
            found = _score_likeness(work, metric, embedder, advance)
            whole = work.cache.embed(embedder, work.files, WHOLE, advance).vectors
            _score_copying(work, f"copying/{name}", embedder, whole, advance)
        score_drift(work, name, embedder.name, whole)
        work.scores.anchors[metric] |= measure_power(work, embedder, others)
        if not heads_noted:
            _note_heads(work, *found)
            heads_noted = True


def _score_likeness(work: Work, metric: str, embedder: ImageEmbedder, advance: Advance) -> tuple[Tensor, Tensor]:
    """Rows for the prompts that name the subject; for those that name its class, how alike the class has become."""
    photos = work.cache.embed(embedder, work.likeness_photos, work.crop, advance)
    renders = work.cache.embed(embedder, work.files, work.crop, advance)
    values = likeness(renders.vectors, photos.vectors).tolist()
    with_subject = [place for place, picture in enumerate(work.pictures) if work.names_subject(picture)]
    chosen, own = [work.pictures[p] for p in with_subject], [values[p] for p in with_subject]
    work.scores.use(metric, embedder.name)
    work.scores.add(metric, chosen, own)
    count, top = len(photos.vectors), ceiling(photos.vectors)
    what, against = "pictures" if work.crop is WHOLE else "heads", "held-out " if _held_out(work) else ""
    note = (
        f"mean cosine of {what} to {count} {against}photos; floor: the base's renders; "
        "ceiling: each of these photos against the others"
    )
    note = note if top is not None else too_few("ceiling", count)
    work.scores.anchor(metric, base_mean(chosen, own), top, note, photos=count, held_out=_held_out(work))
    others = gains(chosen, own)
    gain = metric.replace("likeness/", "likeness_gain/", 1)
    work.scores.use(gain, embedder.name)
    work.scores.add(gain, [p for p, _ in others], [v for _, v in others])
    work.scores.anchor(gain, 0.0, None, "likeness minus that of the base's render of the same prompt and seed")
    _score_class_likeness(work, metric.replace("likeness/", "class_likeness/", 1), embedder.name, values)
    return photos.found, renders.found


def _score_class_likeness(work: Work, metric: str, name: str, values: list[float]) -> None:
    """As PRES of DreamBooth (Ruiz et al. 2023, section 4.4), beside what the base scores."""
    places = [p for p, picture in enumerate(work.pictures) if work.of_class(picture)]
    if places:
        work.scores.use(metric, name)
        work.add_chosen(metric, values, places)
        low = base_mean([work.pictures[p] for p in places], [values[p] for p in places])
        note = "likeness of what was asked for by the class noun alone; above the floor, the class became the subject"
        work.scores.anchor(metric, low, None, note)


def _held_out(work: Work) -> bool:
    return work.likeness_photos != work.photo_set.files


def _score_copying(work: Work, metric: str, embedder: ImageEmbedder, renders: Tensor, advance: Advance) -> None:
    """Whole pictures against views of training photos, because what is copied is the photo, ground and all."""
    photos = work.photo_set.training_files
    views = torch.stack([work.cache.embed(embedder, photos, crop, advance).vectors for crop in view_crops()], 1)
    work.scores.use(metric, embedder.name)
    spread = photo_spread(views)  # of (M, V, D)
    if spread is None:
        work.scores.anchor(metric, None, None, too_few("copying", len(photos)))
        work.scores.notes.append(too_few("copying", len(photos)))
        return
    most, places = photo_similarities(renders, views).max(1)
    values = most.tolist()
    work.scores.add(metric, work.pictures, values, [photos[place].name for place in places.tolist()])
    note = (
        "cosine to the nearest training photo, mirrored ones and parts included; floor: the base's renders; ceiling: "
        "the nearest that two real photos come; a render above it is nearer to a photo than any photo to another"
    )
    nearest = [round(value, DECIMALS) for value in spread.nearest]
    above = share_above(work.pictures, values, spread.limit)
    low = base_mean(work.pictures, values)
    work.scores.anchor(metric, low, spread.limit, note, photos=nearest, share_above=above)


def _note_heads(work: Work, in_photos: Tensor, in_renders: Tensor) -> None:
    photos = work.likeness_photos
    without = [file.name for file, found in zip(photos, in_photos.tolist(), strict=True) if not found]
    if without:
        work.scores.notes.append(
            f"no head was found in {len(without)} of {len(photos)} photos ({', '.join(without)}); "
            "likeness compares their centre"
        )
    found = zip(work.pictures, in_renders.tolist(), strict=True)
    by_variant = Counter(picture.cell.variant for picture, there in found if not there and work.names_subject(picture))
    if by_variant:
        listed = ", ".join(f"{variant} {count}" for variant, count in by_variant.items())
        work.scores.notes.append(
            f"no head was found in {by_variant.total()} of {len(work.pictures)} renders ({listed}); "
            "likeness compares their centre"
        )
