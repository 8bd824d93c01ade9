"""The model card of the packaged folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limner.config import Render
from miniature.files import written_whole
from miniature.records import TABLES, PartRecord, part_settings, valid_records
from miniature.rows import table
from miniature.styles import STYLE_NAMES

CARD_FILE = "README.md"

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

The scripts are `miniature/` in limner's repository; how long each took stands in `miniature/README.md`.

- VAE: 6,529 steps in all (5,862 with the encoder, batch 64, on two H200, then 667 with the decoder alone, batch 32),
  started from the first version's weights. Losses: logarithm of each picture's squared error, gradient difference,
  early features of EfficientNet-Lite0, divergence at 1e-8 (at 1e-6 one of the four latent channels had stayed unused).
  Views of one flat colour are among the pictures. The last convolution was then solved anew for flat colours (`flats`).
- CLIP pair: 2,117 steps, contrastive on composed captions, with features of EfficientNet-Lite0 distilled into the image
  tower.
- UNet: from scratch, 2,539 steps of 1,024 latents, noise prediction, min-SNR 5, the text tower frozen.
- ControlNet: from scratch (from the UNet's encoder), 1,395 steps of 256, the UNet frozen.

Matrices by Muon, the rest by AdamW; averaged weights, stored in half precision.

Captions: a style or light, sometimes a rare token, a breed or none, "cat" or "dog", often "face"; for example `a
pencil sketch of sks siamese cat face`. Styles: {styles}. Rare tokens such as `sks` stand in captions at random, so
they mean nothing until somebody teaches them.

The image tower reads 128x128 pictures scaled to [-1, 1] (`clip/preprocessor_config.json`). The text tower is stored
once, in `text_encoder/`; `clip/` holds the rest of the pair.

## Figures

{figures}

## Limits

It knows cat and dog portraits in the styles above and nothing else: no people, places or objects, whatever the prompt
says. Other words are read but mean little. Renders of one prompt resemble each other, small details (whiskers,
pupils, text) are often wrong, and training pictures of rare breeds may be remembered. It is a teaching and testing
tool, not a product.
"""


FIGURES = """Measured by `make -C miniature check` on the held-out pictures and on renders at limner's settings for this
family: {sampler}, {steps} steps, guidance scale {guidance_scale:g}.

{summary}

KID: kernel distance of EfficientNet-Lite0's features (arXiv 1801.01401), 0 for pictures of one kind; its two anchors
show what other real pictures and the VAE alone reach. Distance to the nearest training picture: 1 - cosine of the same
features, mirrored pictures and crops seen through; smaller than for held-out photos would mean copying. Unseen cats:
eight cats that were in no training, each taught with limner from its photos; ten renders of "a photo of sks cat face"
are each given to the cat that their head is most like, and fifteen styled renders to the style that the pair names.
What is marked **no** was asked for and is not reached."""


def summary(records: Mapping[str, PartRecord]) -> str:
    """One table of all parts measured, when and on what they were, and a line for each part that was not."""
    measured = "; ".join(f"{name} {r.date}, {r.device}, {r.seconds:.0f} s" for name, r in records.items())
    missing = "\n".join(f"- not measured for these weights: {name}" for name in TABLES if name not in records)
    rows = [row for record in records.values() for row in record.figures]
    return "\n\n".join(filter(None, [table(rows) if rows else "", measured and f"Measured: {measured}.", missing]))


def write_card(folder: Path, work: Path) -> None:
    """README.md in the packaged folder, with the figures in WORK/check/parts that are of its weights and settings."""
    settings = Render.model_validate(part_settings(folder, "renders")["render"])
    facts = {name: getattr(settings, name) for name in ("sampler", "steps", "guidance_scale")}
    figures = FIGURES.format(summary=summary(valid_records(folder, work)), **facts)
    with written_whole(folder / CARD_FILE) as temporary:
        temporary.write_text(CARD.format(styles=", ".join(STYLE_NAMES), figures=figures), encoding="utf-8")
