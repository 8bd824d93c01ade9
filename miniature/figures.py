"""What `check` measures of the packaged family, part by part. Each function returns rows and details."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from limner.embeddings import view_boxes
from limner.measuring import canny_edges, edge_agreement, nearest_photo
from miniature.captions import compose
from miniature.family import Family, to_uint8
from miniature.fidelity import (
    kernel_distance,
    pooled_features,
    split_kernel_distance,
    view_features,
)
from miniature.files import save_array
from miniature.held_out import Pets
from miniature.perception import Perception
from miniature.randomness import numpy_generator
from miniature.recognition import NameTable, shares, style_prompts
from miniature.rows import Row
from miniature.settings import PICTURE_PX
from miniature.sheets import save_sheet
from miniature.styles import STYLE_NAMES

Figures = tuple[list[Row], dict[str, Any]]
GREY = 127
FLAT_COLOURS = ((127,) * 3, (235, 235, 235), (30, 30, 30), (200, 60, 60), (60, 160, 80), (70, 90, 200), (230, 200, 90))
KID_RENDERS = 1000
LOW_GUIDANCE = 1.5
MIB = 2**20


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of arrays in 8-bit levels; infinite for equal ones."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def flat_faults(levels: np.ndarray, colour: tuple[int, ...]) -> dict[str, float]:
    """What is wrong with a flat colour's reconstruction (H, W, 3), in levels.

    `mean`: mean absolute deviation from the colour, of the worst channel; `largest`: the same of the worst pixel;
    `texture`: standard deviation within the worst channel.
    """
    away = np.abs(levels - np.array(colour))
    texture = levels.std((0, 1)).max()
    return {"mean": float(away.mean((0, 1)).max()), "largest": float(away.max()), "texture": float(texture)}


def control_target(reconstruction_f1: float) -> float:
    """What the F1 with control must reach: 0.6, or 0.85 of the reconstruction's, whichever is lower."""
    return min(0.6, 0.85 * reconstruction_f1)


def flat_rows(flats: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """The rows on flat colours, from the faults of each."""
    grey = flats[str((GREY,) * 3)]
    texture = max(faults["texture"] for faults in flats.values())
    return [
        Row("VAE: flat mid-grey, mean deviation of a channel in 8-bit levels", grey["mean"], 1.0, "at most"),
        Row("VAE: flat mid-grey, largest deviation of any pixel", grey["largest"]),
        Row("VAE: flat colours, largest deviation within a channel", texture, 1.5, "at most"),
    ]


def check_vae(family: Family, val: Pets, fewer: int | None) -> Figures:
    """Photos and styles reconstructed; flat pictures stay flat."""
    each: dict[str, list[float]] = {}
    pooled: dict[str, float] = {}
    for style in STYLE_NAMES if fewer is None else STYLE_NAMES[:1]:
        pictures = val.thinned(fewer).styled(style)
        levels = family.reconstruct(pictures)
        each[style] = [psnr(*pair) for pair in zip(pictures, levels, strict=True)]
        pooled[style] = psnr(pictures, levels)
    flats = {}
    for colour in FLAT_COLOURS:
        picture = np.broadcast_to(np.array(colour, np.uint8), (1, PICTURE_PX, PICTURE_PX, 3))
        flats[str(colour)] = flat_faults(family.reconstruct(np.ascontiguousarray(picture))[0], colour)
    rows = [
        Row("VAE: PSNR of held-out photos, dB, mean of pictures", float(np.mean(each["photo"])), 30.0),
        *flat_rows(flats),
    ]
    means = {style: float(np.mean(values)) for style, values in each.items()}
    worst = {style: float(np.min(values)) for style, values in each.items()}
    return rows, {"psnr": means, "psnr_of_pooled_error": pooled, "lowest_psnr": worst, "flat": flats}


def check_pair(family: Family, val: Pets, fewer: int | None) -> Figures:
    """Does the CLIP pair name what real pictures show?"""
    names = NameTable.of(family.pair.embed_texts, val.breeds)
    breed = torch.tensor(val.thinned(fewer).breed)
    rows = [
        names.correct(family.pair.embed(list(val.thinned(fewer).styled(style))), index, breed)
        for index, style in enumerate(STYLE_NAMES)
    ]
    photo, all_styles = shares(rows[:1]), shares(rows)
    table = [
        Row("CLIP pair: right breed among 37 in photos, rank 1", photo["breed_rank1"], 0.50),
        Row("CLIP pair: the same, rank 5", photo["breed_rank5"], 0.80),
        Row("CLIP pair: right style among 16", all_styles["style"], 0.95),
    ]
    by_style = {style: float(row["style"].mean()) for style, row in zip(STYLE_NAMES, rows, strict=True)}
    return table, {"photo": photo, "all_styles": all_styles, "style": by_style}


def check_renders(family: Family, val: Pets, fewer: int | None, folder: Path) -> Figures:
    """Does the pair name what guided renders were asked for? Every breed in every style once."""
    names = NameTable.of(family.pair.embed_texts, val.breeds)
    cells = [(style, breed) for style in range(len(STYLE_NAMES)) for breed in range(len(val.breeds))]
    if fewer is not None:
        cells = [cells[index] for index in np.linspace(0, len(cells) - 1, min(fewer, len(cells))).astype(int)]
    texts = [style_prompts(STYLE_NAMES[style], "{1} {0} face".format(*val.breeds[breed]))[0] for style, breed in cells]
    renders = family.render(texts, [style * len(val.breeds) + breed for style, breed in cells])
    embeddings = family.pair.embed(list(renders))
    found = [
        names.correct(embeddings[row : row + 1], style, torch.tensor([breed]))
        for row, (style, breed) in enumerate(cells)
    ]
    share = shares(found)
    step = max(1, len(cells) // 96)
    save_sheet(folder / "renders.jpg", list(renders[::step]), [text[-30:] for text in texts[::step]], 12)
    rows = [
        Row("UNet: renders whose asked style the pair names", share["style"], 0.90),
        Row("UNet: the asked breed, rank 5", share["breed_rank5"], 0.60),
        Row("UNet: cat or dog as asked", share["species"], 0.97),
    ]
    by_style = {
        name: shares([row for row, (style, _) in zip(found, cells, strict=True) if style == index])
        for index, name in enumerate(STYLE_NAMES)
        if any(style == index for style, _ in cells)
    }
    return rows, {"renders": len(cells), "all": share, "by_style": by_style}


def val_captions(val: Pets, count: int) -> list[str]:
    """Composed photo captions that name the breeds of the val split's pictures, in turn."""
    captions = []
    for index in range(count):
        species, breed = val.breeds[val.breed[index % len(val.breed)]]
        captions.append(compose(numpy_generator(0, "check captions", index), "photo", species, breed))
    return captions


def check_distance(
    family: Family, val: Pets, train: Pets, perception: Perception, fewer: int | None, work: Path
) -> Figures:
    """KID of renders between its two anchors, and how near renders come to single training pictures."""
    count = fewer or KID_RENDERS
    captions, seeds = val_captions(val, count), list(range(count))
    boxes = view_boxes(PICTURE_PX)[: None if fewer is None else 1]
    views = train_views(perception, train, boxes, work)
    real, plain = pooled_features(perception, val.photos), views[:, 0]
    own = family.render_settings.guidance_scale
    rendered = {scale: family.render(captions, seeds, family.recipe(scale)) for scale in (own, LOW_GUIDANCE)}
    features = {scale: pooled_features(perception, pictures) for scale, pictures in rendered.items()}
    rebuilt = pooled_features(perception, to_uint8(family.reconstruct(val.photos)))
    distances = {f"renders, guidance {scale:g}": kernel_distance(found, real) for scale, found in features.items()}
    distances |= {
        "anchor, train split": kernel_distance(plain, real),
        "anchor, VAE's reconstructions of val": split_kernel_distance(rebuilt, real),
    }
    rows = [
        Row(f"KID x 1000 to the val split: {name}", 1000 * mean, note=f"± {1000 * spread:.2g} over subsets")
        for name, (mean, spread) in distances.items()
    ]
    save_sheet(work / "captions.jpg", list(rendered[own][:48]), [text[:32] for text in captions[:48]], 12)
    copying, details = copy_rows(features[own], real, views, rebuilt)
    kid = {name: {"mean": mean, "spread": spread} for name, (mean, spread) in distances.items()}
    return rows + copying, {"renders": count, "kid": kid, "copying": details | {"views": views.shape[1]}}


def copy_rows(
    renders: np.ndarray, real: np.ndarray, views: np.ndarray, rebuilt: np.ndarray
) -> tuple[list[Row], dict[str, float]]:
    """Distances (1 - cosine) of renders and of held-out pictures to the nearest view of a training picture.

    `rebuilt` are the held-out pictures through the VAE: what it costs in features, no render can be without.
    """
    references = F.normalize(torch.from_numpy(views), dim=-1)
    of_renders, of_real, of_rebuilt = (
        1 - nearest_photo(F.normalize(torch.from_numpy(found), dim=-1), references)
        for found in (renders, real, rebuilt)
    )
    low = float(of_real.quantile(0.05))
    details = {
        "median_of_renders": float(of_renders.median()),
        "median_of_val": float(of_real.median()),
        "median_of_val_through_vae": float(of_rebuilt.median()),
        "val_5th_percentile": low,
        "renders_nearer_than_that": float((of_renders < low).float().mean()),
    }
    note = f"the target is the val split's own; through the VAE that is {details['median_of_val_through_vae']:.4f}"
    rows = [
        Row(
            "UNet: nearest training picture of renders, median distance",
            details["median_of_renders"],
            details["median_of_val"],
            note=note,
        ),
        Row("UNet: renders nearer than the val split's 5th percentile", details["renders_nearer_than_that"]),
    ]
    return rows, details


def train_views(perception: Perception, train: Pets, boxes: list[Any], work: Path) -> np.ndarray:
    """Features (M, V, 1280) of the training pictures' views; V is 2 for each square. Kept in WORK."""
    path = work / f"train-features-{len(train.photos)}-{len(boxes)}.npy"
    if path.exists():
        return np.load(path).astype(np.float32)
    views = np.stack(list(view_features(perception, train.photos, boxes)), 1)
    save_array(path, views.astype(np.float16))
    return views


def check_control(family: Family, val: Pets, fewer: int | None, folder: Path) -> Figures:
    """Do conditioned renders keep the edges, and how much of that is the ControlNet's doing?"""
    chosen = val.thinned(None if fewer is None else max(4, fewer // 4))
    references = chosen.photos
    texts = [f"portrait of {val.breeds[breed][0]} face" for breed in chosen.breed]
    seeds = list(range(5000, 5000 + len(texts)))
    shown = {
        "with control": family.render_edges(texts, seeds, references),
        "without": family.render_edges(texts, seeds, None),
        "reconstruction": to_uint8(family.reconstruct(references)),
    }
    settings = family.control_settings

    def edges(picture: np.ndarray) -> np.ndarray:
        return canny_edges(picture, settings.canny_low, settings.canny_high)

    def mean_f1(pictures: np.ndarray) -> float:
        pairs = zip(pictures, references, strict=True)
        return float(np.mean([edge_agreement(edges(picture), edges(reference)) for picture, reference in pairs]))

    found = {name: mean_f1(pictures) for name, pictures in shown.items()}
    sheet = [picture for pictures in (references, *shown.values()) for picture in pictures[:12]]
    save_sheet(folder / "control.jpg", sheet, [""] * len(sheet), min(12, len(texts)))
    target = control_target(found["reconstruction"])
    gain = found["with control"] - found["without"]
    rebuilt = f"the VAE's reconstructions reach {found['reconstruction']:.3f}"
    rows = [
        Row("ControlNet: F1 of Canny edges within 2 px", found["with control"], target, note=rebuilt),
        Row("ControlNet: the same less that without control", gain, 0.15, note=f"{found['without']:.3f} without"),
    ]
    return rows, {"pictures": len(texts), "f1": found}


def check_size(folder: Path) -> Figures:
    """The family on disk."""
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size / MIB for file in files_of(folder)}
    rows = [
        Row("Size: whole family, MiB", sum(sizes.values()), 48.0, "at most"),
        Row("Size: largest file, MiB", max(sizes.values()), 15.0, "at most"),
    ]
    return rows, {"mib": {name: round(size, 3) for name, size in sizes.items() if size > 0.1}}


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
