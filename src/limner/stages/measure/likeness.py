"""Likeness with its anchors, copying, drift and an embedding's power: what each image embedder has to say."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from limner.embeddings import WHOLE, Embedded, EmbedderLocation, ImageEmbedder, view_crops
from limner.errors import InputError
from limner.measuring import (
    DECIMALS,
    base_mean,
    ceiling,
    gains,
    likeness,
    nearest_photo,
    photo_spread,
    share_above,
)
from limner.stages.measure.drift import score_drift
from limner.stages.measure.found import note_not_found
from limner.stages.measure.others import Others
from limner.stages.measure.power import measure_power
from limner.stages.measure.work import Advance, Work, there, too_few


def score_likeness(work: Work, places: dict[str, EmbedderLocation | str], others: Others) -> None:
    """All that image embedders measure, one after another; those that are not there are left out."""
    heads_noted = work.crop is WHOLE
    for name, place in places.items():
        metric = f"likeness/{name}"
        try:
            embedder, own_crop = there(place).load_image(work.device), there(place).own_crop()
        except InputError as error:
            work.leave_out(metric, name, str(error))
            continue
        if own_crop is not None:
            _score_faces(replace(work, crop=own_crop), metric, embedder, others)
            continue
        photos, training = work.likeness_photos, work.photo_set.training_files
        total = 2 * len(work.pictures) + len(photos) + len(view_crops()) * len(training)
        with work.progress.task(f"measure likeness ({name})", total) as advance:
            found = _embed_both(work, embedder, advance)
            _score_likeness(work, metric, embedder.name, *found)
            whole = work.cache.embed(embedder, work.files, WHOLE, advance).vectors
            _score_copying(work, f"copying/{name}", embedder, whole, advance)
        score_drift(work, name, embedder.name, whole)
        work.scores.anchors[metric] |= measure_power(work, embedder, others)
        if not heads_noted:
            note_not_found(work, *(embedded.found for embedded in found))
            heads_noted = True


def _score_faces(work: Work, metric: str, embedder: ImageEmbedder, others: Others) -> None:
    """Likeness alone, where a face was found: whole pictures (copying, drift) are nothing to a model of faces."""
    total = len(work.pictures) + len(work.likeness_photos)
    with work.progress.task(f"measure likeness ({embedder.name})", total) as advance:
        photos, renders = _embed_both(work, embedder, advance)
    if not photos.found.any():
        reason = f"no face was found in any of the {len(photos.found)} photos"
        work.leave_out(metric, embedder.name, reason)
        return
    _score_likeness(work, metric, embedder.name, photos, renders)
    note_not_found(work, photos.found, renders.found)
    without = {"photos": int((~photos.found).sum()), "renders": int((~renders.found).sum())}
    work.scores.anchors[metric] |= measure_power(work, embedder, others) | {"without_face": without}


def _embed_both(work: Work, embedder: ImageEmbedder, advance: Advance) -> tuple[Embedded, Embedded]:
    """The photos that likeness is measured against, and the renders."""
    photos = work.cache.embed(embedder, work.likeness_photos, work.crop, advance)
    return photos, work.cache.embed(embedder, work.files, work.crop, advance)


def _score_likeness(work: Work, metric: str, name: str, photos: Embedded, renders: Embedded) -> None:
    """Rows for the prompts that name the subject; for those that name its class, how alike the class has become."""
    of_photos = photos.vectors[photos.found] if work.crop.leaves_out else photos.vectors  # (M, D)
    values = likeness(renders.vectors, of_photos).tolist()
    seen = [there or not work.crop.leaves_out for there in renders.found.tolist()]
    places = [place for place, picture in enumerate(work.pictures) if seen[place] and work.names_subject(picture)]
    chosen, own = [work.pictures[p] for p in places], [values[p] for p in places]
    work.scores.use(metric, name)
    work.scores.add(metric, chosen, own)
    count, top = len(of_photos), ceiling(of_photos)
    note = _meaning(work, count) if top is not None else too_few("ceiling", count)
    work.scores.anchor(metric, base_mean(chosen, own), top, note, photos=count, held_out=_held_out(work))
    others = gains(chosen, own)
    gain = metric.replace("likeness/", "likeness_gain/", 1)
    work.scores.use(gain, name)
    work.scores.add(gain, [p for p, _ in others], [v for _, v in others])
    work.scores.anchor(gain, 0.0, None, "likeness minus that of the base's render of the same prompt and seed")
    of_class = [place for place, picture in enumerate(work.pictures) if seen[place] and work.of_class(picture)]
    _score_class_likeness(work, metric.replace("likeness/", "class_likeness/", 1), name, values, of_class)


def _meaning(work: Work, count: int) -> str:
    what = "faces" if work.crop.leaves_out else "pictures" if work.crop is WHOLE else "heads"
    against = "held-out " if _held_out(work) else ""
    return (
        f"mean cosine of {what} to {count} {against}photos; floor: the base's renders; "
        "ceiling: each of these photos against the others"
    )


def _score_class_likeness(work: Work, metric: str, name: str, values: list[float], places: list[int]) -> None:
    """As PRES of DreamBooth (Ruiz et al. 2023, section 4.4), beside what the base scores."""
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
    values = nearest_photo(renders, views).tolist()
    work.scores.add(metric, work.pictures, values)
    note = (
        "cosine to the nearest training photo, mirrored ones and parts included; floor: the base's renders; ceiling: "
        "the nearest that two real photos come; a render above it is nearer to a photo than any photo to another"
    )
    nearest = [round(value, DECIMALS) for value in spread.nearest]
    above = share_above(work.pictures, values, spread.limit)
    low = base_mean(work.pictures, values)
    work.scores.anchor(metric, low, spread.limit, note, photos=nearest, share_above=above)
