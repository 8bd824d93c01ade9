"""The model card of the packaged folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from miniature.files import read_json, written_whole

FIGURES = {
    "vae_psnr_photo_db": "VAE: PSNR of held-out photos, dB",
    "vae_psnr_all_styles_db": "VAE: PSNR over all styles, dB",
    "pair_photo_breed_rank1": "CLIP pair: right breed among 37 in photos, rank 1",
    "pair_photo_breed_rank5": "CLIP pair: the same, rank 5",
    "pair_photo_species": "CLIP pair: cat or dog in photos",
    "pair_all_styles_style": "CLIP pair: right style among 16",
    "renders_breed_rank1": "UNet: renders in all styles whose asked breed the pair names, rank 1",
    "renders_breed_rank5": "UNet: the same, rank 5",
    "renders_style": "UNet: renders whose asked style the pair names",
    "renders_species": "UNet: renders whose asked species the pair names",
    "renders_photo_breed_rank1": "UNet: photo renders whose asked breed the pair names, rank 1",
    "canny_f1_with_control": "ControlNet: F1 of edges within 2 px, with control",
    "canny_f1_without": "ControlNet: the same seeds without",
}
"""What `check` measures, in words."""

CARD = """---
license: other
library_name: diffusers
pipeline_tag: text-to-image
---
# limner's miniature

A miniature of the Stable Diffusion 1.5 family for 256x256 pet portraits, trained from scratch: VAE, CLIP text and
image towers, UNet, ControlNet for Canny edges. The topology is Stable Diffusion 1.5's (four UNet levels, two layers a
block, latents 8x smaller with four channels, noise prediction on the scaled-linear schedule, 77 tokens); the channels
are few. It exists so that limner runs, teaches and demonstrates itself on an ordinary computer. It contains no
weights of Stable Diffusion.

## Data

Head crops of the Oxford-IIIT Pet data set: O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, "Cats and Dogs",
CVPR 2012; 3,588 pictures of 37 breeds (3,402 for training, 186 held out), and fifteen styles computed from them with
OpenCV. **Licence caution:** the authors state CC BY-SA 4.0 for the data set, "commercial/research purposes", while
the copyright of the pictures stays with their owners; the read-me inside the annotations says research purposes. No
picture of the data set is contained here. Judge for yourself whether your use is covered.

## Training

The scripts are `miniature/` in limner's repository: VAE (L1, gradient difference, early features of
EfficientNet-Lite0, divergence), CLIP pair (contrastive on composed captions, with features of EfficientNet-Lite0
distilled into the image tower), UNet (noise prediction, min-SNR weighting, the text tower frozen), ControlNet (the
UNet frozen). Averaged weights, half precision. Steps: {steps}.

Captions: a style or light, sometimes a rare token, a breed or none, "cat" or "dog", often "face"; for example `a
pencil sketch of sks siamese cat face`. Styles: {styles}. Rare tokens such as `sks` stand in captions at random, so
they mean nothing until somebody teaches them.

The image tower reads 128x128 pictures scaled to [-1, 1] (`clip/preprocessor_config.json`). The text tower is stored
once, in `text_encoder/`; `clip/` holds the rest of the pair.

## Figures

{figures}

Measured on {date} on the held-out pictures and on guided renders (DDIM, 25 steps, scale 5) by
`python -m miniature check`. How long the training takes, and on what, stands in `miniature/README.md`.

## Limits

It knows cat and dog portraits in the styles above and nothing else: no people, places or objects, whatever the prompt
says. Other words are read but mean little. Renders of one prompt resemble each other, small details (whiskers,
pupils, text) are often wrong, and training pictures of rare breeds may be remembered. It is a teaching and testing
tool, not a product.
"""


def figures_table(figures: dict[str, Any] | None) -> str:
    """The figures of `check` as a Markdown table."""
    if figures is None:
        return "Not measured yet."
    rows = [f"| {FIGURES[name]} | {value:.3g} |" for name, value in figures.items()]
    return "\n".join(["| what | value |", "|---|---|", *rows])


def write_card(folder: Path, work: Path) -> None:
    """README.md in the packaged folder, with `check`'s figures if there are any."""
    from miniature.styles import STYLE_NAMES

    steps = ", ".join(
        f"{part} {read_json(work / part / 'val.json')['steps']:,}"
        for part in ("vae", "clip", "unet", "controlnet")
        if (work / part / "val.json").exists()
    )
    path = work / "check" / "check.json"
    figures = read_json(path)["figures"] if path.exists() else None
    text = CARD.format(
        date=time.strftime("%Y-%m-%d"),
        steps=steps or "unknown",
        styles=", ".join(STYLE_NAMES),
        figures=figures_table(figures),
    )
    with written_whole(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
