"""The model card of the packaged folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limner.artifacts import canonical_json, hash_bytes, hash_file
from miniature.files import read_json, written_whole
from miniature.rows import row_from_json, table
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

The scripts are `miniature/` in limner's repository: VAE (L1, gradient difference, early features of
EfficientNet-Lite0, divergence), CLIP pair (contrastive on composed captions, with features of EfficientNet-Lite0
distilled into the image tower), UNet (noise prediction, min-SNR weighting, the text tower frozen), ControlNet (the
UNet frozen). Averaged weights, half precision. How long it took, and on what, stands in `miniature/README.md`.

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


UNMEASURED = "These weights are not measured yet: `make -C miniature check` does it."
MEASURED = """Measured on {date} ({device}, {seconds:.0f} s) by `make -C miniature check` on the held-out pictures and
on renders at limner's settings for this family: {sampler}, {steps} steps, guidance scale {guidance_scale:g}.

{table}

KID: kernel distance of EfficientNet-Lite0's features (arXiv 1801.01401), 0 for pictures of one kind; its two anchors
show what other real pictures and the VAE alone reach. Distance to the nearest training picture: 1 - cosine of the same
features, mirrored pictures and crops seen through; smaller than for held-out photos would mean copying. Unseen cats:
eight cats that were in no training, each taught with limner from its photos; ten renders of "a photo of sks cat face"
are each given to the cat that their head is most like, and fifteen styled renders to the style that the pair names.
What is marked **no** was asked for and is not reached."""


def family_hash(folder: Path) -> str:
    """SHA-256 over the content of every file but the card, which tells of it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CARD_FILE)
    return hash_bytes(canonical_json({path.relative_to(folder).as_posix(): hash_file(path) for path in files}))


def figures_text(record: dict[str, Any] | None, family: str) -> str:
    """The card's section from `check.json`; without one, or with one of other weights, that nothing is measured."""
    if record is None or record["family"] != family:
        return UNMEASURED
    rows = [row_from_json(row) for row in record["rows"]]
    facts = {name: record[name] for name in ("date", "device", "seconds")} | record["render"]
    return MEASURED.format(table=table(rows), **facts)


def write_card(folder: Path, work: Path) -> None:
    """README.md in the packaged folder, with the figures in WORK/check/check.json if they are of these weights."""
    path = work / "check" / "check.json"
    record = read_json(path) if path.exists() else None
    figures = figures_text(record, family_hash(folder))
    with written_whole(folder / CARD_FILE) as temporary:
        temporary.write_text(CARD.format(styles=", ".join(STYLE_NAMES), figures=figures), encoding="utf-8")
