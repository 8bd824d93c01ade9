"""An embedding's power: would it know the subject in a picture of the style that a prompt asks for?"""

from __future__ import annotations

from typing import Any

import torch

from limner.embeddings import Crop, Embedded, ImageEmbedder
from limner.measuring import DECIMALS, FEWEST_OTHERS, FEWEST_PHOTOS, STYLES_VERSION, power, put_through, styles_named
from limner.stages.measure.others import Others
from limner.stages.measure.work import Work, too_few

Styles = tuple[str, ...]
MEANING = "how often a photo of the subject, put through the prompt's style, is found among eight"


def measure_power(work: Work, embedder: ImageEmbedder, others: Others) -> dict[str, Any]:
    """What goes beside a likeness metric's anchors: `power` by prompt, and the others that it was measured with.

    A prompt's power is None where it could not be measured; why stands in `power_note`.
    """
    styles = _styles_by_prompt(work)
    note = _obstacle(work, others)
    if note:
        shares: dict[Styles, float | None] = {}
    else:
        wanted = list(dict.fromkeys(style for style in styles.values() if style is not None))
        total = len(wanted) * (len(work.photo_set.files) + len(others.files)) + len(work.photo_set.files)
        with work.progress.task(f"measure power ({embedder.name})", total) as advance:
            photos = work.cache.embed(embedder, work.photo_set.files, work.crop, advance)
            shares = {}
            for style in wanted:
                crop = _styled(work.crop, style)
                own = work.cache.embed(embedder, work.photo_set.files, crop, advance)
                of_others = work.cache.embed(embedder, others.files, crop, advance)
                shares[style] = share_recognised(own, of_others, photos, work.crop.leaves_out)
    by_prompt = {name: shares.get(style) if style is not None else None for name, style in styles.items()}
    return {
        "power": {name: share if share is None else round(share, DECIMALS) for name, share in by_prompt.items()},
        "power_styles": {name: style if style is None else list(style) for name, style in styles.items()},
        "power_others": {"from": others.origin, "pictures": len(others.files), "real": others.real},
        "power_note": note or (MEANING if others.real else f"{MEANING}; at most, since the others are renders"),
    }


def share_recognised(own: Embedded, of_others: Embedded, photos: Embedded, leaves_out: bool) -> float | None:
    """The subject's `power` under a style; with `leaves_out` a photo whose face the style hides is not recognised.

    Others whose face it hides are not mistaken for the subject: they leave the line-up.
    """
    if not leaves_out:
        return power(own.vectors, of_others.vectors, photos.vectors)
    hidden = own.vectors.masked_fill(~own.found[:, None], torch.nan)  # NaN is above no other's likeness
    return power(hidden[photos.found], of_others.vectors[of_others.found], photos.vectors[photos.found])


def _styles_by_prompt(work: Work) -> dict[str, Styles | None]:
    """The styles that each prompt for the subject names; None where one is not known."""
    texts = {p.cell.prompt: p.cell.text for p in work.pictures if p.cell.reference is None and work.names_subject(p)}
    named = {name: styles_named(text) for name, text in texts.items()}
    return {name: None if styles is None else tuple(styles) for name, styles in named.items()}


def _obstacle(work: Work, others: Others) -> str:
    if len(work.photo_set.files) < FEWEST_PHOTOS:
        return too_few("power", len(work.photo_set.files))
    if len(others.files) < FEWEST_OTHERS:
        return (
            f"power: not measurable with {len(others.files)} pictures of others ({others.origin}); {FEWEST_OTHERS} are "
            "needed: a folder of them (measure.others) or class images"
        )
    return ""


def _styled(crop: Crop, styles: Styles) -> Crop:
    """Pictures as they are where there is no style; else put through it before their crop is looked for."""
    if not styles:
        return crop
    name = "+".join(styles).replace(" ", "-")
    return Crop(
        f"{name}-{STYLES_VERSION}-{crop.name}",
        lambda image, px: crop.cut(put_through(image, [*styles]), px),
        crop.leaves_out,
    )
