"""`python -m miniature sheet OUT.jpg`: what the packaged family paints before anybody teaches it."""

from __future__ import annotations

import argparse
from pathlib import Path

from limner.base.devices import choose_device
from miniature.family import load_family
from miniature.sheets import save_sheet
from miniature.subjects import FAMILY
from miniature.unet import SHEET_PROMPTS

COLUMNS = 6
LABEL_LETTERS = 32


def main(arguments: list[str]) -> None:
    """Render every prompt of the sheet with a seed of its own."""
    parser = argparse.ArgumentParser(prog="python -m miniature sheet", description=__doc__)
    parser.add_argument("target", type=Path, help="the JPEG or PNG to write")
    parser.add_argument("--out", type=Path, default=FAMILY, help="the family's folder")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--seed", type=int, default=0, help="the first picture's seed; the others count on")
    options = parser.parse_args(arguments)
    family = load_family(options.out, choose_device(options.device))
    pictures = family.render(SHEET_PROMPTS, range(options.seed, options.seed + len(SHEET_PROMPTS)))
    save_sheet(options.target, list(pictures), [prompt[-LABEL_LETTERS:] for prompt in SHEET_PROMPTS], COLUMNS)
