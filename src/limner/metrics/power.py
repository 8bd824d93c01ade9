"""An embedding's power: would it know the subject in a picture of the style that a prompt asks for?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.embeddings import WHOLE, Crop, Embedded
from limner.measuring import DECIMALS, FEWEST_OTHERS, FEWEST_PHOTOS, STYLES_VERSION, power, put_through, styles_named
from limner.metrics.inputs import MeasureInputs, ModelView, too_few
from limner.records import PowerOthers

Styles = tuple[str, ...]
MEANING = "how often a photo of the subject, put through the prompt's style, is found among eight"


def measure_power(view: ModelView) -> dict[str, Any]:
    """What stands with a likeness metric's anchors: `power` by prompt, and the others that it was measured with.

    A prompt's power is None where it could not be measured; `power_note` says why.
    """
    others, styles = view.inputs.others, _styles_by_prompt(view.inputs)
    note = _obstacle(view.inputs)
    shares = {} if note else _shares(view, list(dict.fromkeys(each for each in styles.values() if each is not None)))
    by_prompt = {name: shares.get(style) if style is not None else None for name, style in styles.items()}
    return {
        "power": {name: share if share is None else round(share, DECIMALS) for name, share in by_prompt.items()},
        "power_styles": {name: style if style is None else list(style) for name, style in styles.items()},
        "power_others": PowerOthers(origin=others.origin, pictures=len(others.files), real=others.real),
        "power_note": note or (MEANING if others.real else f"{MEANING}; at most, since the others are renders"),
    }


def _shares(view: ModelView, wanted: list[Styles]) -> dict[Styles, float | None]:
    """How often the subject is recognised under each of these styles."""
    cache, files, others = view.inputs.cache, view.inputs.photo_set.files, view.inputs.others.files
    shares: dict[Styles, float | None] = {}
    total = len(wanted) * (len(files) + len(others)) + len(files)
    with view.inputs.progress.task("measure", total, f"power ({view.embedder.name})") as advance:
        photos = cache.embed(view.embedder, files, view.crop, advance)
        whole = photos.vectors if view.crop.leaves_out else cache.embed(view.embedder, files, WHOLE).vectors
        for styles in wanted:
            crop = _styled(view.crop, styles)
            styled = cache.embed(view.embedder, files, crop, advance)
            styled_others = cache.embed(view.embedder, others, crop, advance)
            shares[styles] = share_recognised(styled, styled_others, photos, whole, view.crop.leaves_out)
    return shares


def share_recognised(
    styled: Embedded, styled_others: Embedded, photos: Embedded, whole: Tensor, leaves_out: bool
) -> float | None:
    """The subject's `power` under a style, by the photos in which what is compared was found.

    What a style hides is compared whole, with whole photos (M, D); with `leaves_out` a photo whose face it hides is not
    recognised, and others whose face it hides are not mistaken for the subject: they leave the line-up.
    """
    shown = photos.found
    if leaves_out:
        own = styled.vectors.masked_fill(~styled.found[:, None], torch.nan)  # NaN is above no other's likeness
        faces = photos.vectors[shown]
        return power(own[shown] @ faces.T, styled_others.vectors[styled_others.found] @ faces.T)
    return power(
        _cosines(styled.vectors[shown], styled.found[shown], photos.vectors[shown], whole[shown]),
        _cosines(styled_others.vectors, styled_others.found, photos.vectors[shown], whole[shown]),
    )


def _cosines(pictures: Tensor, cut: Tensor, heads: Tensor, whole: Tensor) -> Tensor:
    """Cosines (N, M) of pictures (N, D), cut or whole, to the heads of photos or to whole ones (M, D), like to like."""
    return torch.where(cut[:, None], pictures @ heads.T, pictures @ whole.T)


def _styles_by_prompt(inputs: MeasureInputs) -> dict[str, Styles | None]:
    """The styles that each prompt for the subject names; None where one is not known."""
    cells = [inputs.pictures[index].cell for index in inputs.indices_where(inputs.names_subject)]
    texts = {cell.prompt: cell.text for cell in cells if cell.reference is None}
    named = {name: styles_named(text) for name, text in texts.items()}
    return {name: None if styles is None else tuple(styles) for name, styles in named.items()}


def _obstacle(inputs: MeasureInputs) -> str:
    photos, others = inputs.photo_set.files, inputs.others
    if len(photos) < FEWEST_PHOTOS:
        return too_few("power", len(photos))
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
    return replace(
        crop,
        name=f"{name}-{STYLES_VERSION}-{crop.name}",
        cut=lambda image, px: crop.cut(put_through(image, [*styles]), px),
    )
