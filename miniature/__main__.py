"""`python -m miniature PART --data DIR --work DIR`: one part of the miniature's training."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from miniature.settings import CAPTIONS_PER_CLASS, PHOTO_VIEWS, STYLE_VIEWS, Job

CHECKS = ("check", "heads", "subjects", "sheet")
"""Commands with options of their own."""
PARTS = ("unpack", "pictures", "tokenizer", "vae", "clip", "latents", "unet", "controlnet", "package", "flats")


def make_parser() -> argparse.ArgumentParser:
    """All options; each part reads those that concern it."""
    parser = argparse.ArgumentParser(prog="python -m miniature", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, required=True, help="folder with pets256/ and pets256.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that the parts write")
    parser.add_argument(
        "--out", type=Path, help="where `package` writes and `check` reads (default WORK/package/miniature)"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--efficientnet", default="package", help="EfficientNet-Lite0 weights: a safetensors file, or `package`"
    )
    parser.add_argument("--steps", type=int, help="train this many steps more")
    parser.add_argument("--max-seconds", type=float, help="stop training this long after the command's start")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--limit-pictures", type=int, help="`pictures`: use only so many")
    parser.add_argument("--captions-per-class", type=int, default=CAPTIONS_PER_CLASS)
    parser.add_argument("--photo-views", type=int, default=PHOTO_VIEWS, help="`latents`: views of each photo")
    parser.add_argument("--style-views", type=int, default=STYLE_VIEWS, help="`latents`: views of each styled picture")
    parser.add_argument("--no-compile", action="store_true", help="do not use torch.compile")
    parser.add_argument("--no-graph", action="store_true", help="do not capture the step in a CUDA graph")
    parser.add_argument("--no-decay", action="store_true", help="keep the learning rate up, to go on later")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--optimizer", choices=("muon", "adamw"), help="instead of the part's own")
    parser.add_argument("--decoder-only", action="store_true", help="`vae`: leave the encoder as it is")
    parser.add_argument("--gpus", type=int, default=1, help="train with one process on each of so many GPUs")
    return parser


def make_job(options: argparse.Namespace) -> Job:
    """The parsed options as one value."""
    values = vars(options).copy()
    for name in ("compile", "graph", "decay"):
        values[f"use_{name}"] = not values.pop(f"no_{name}")
    values["out"] = values["out"] or options.work / "package" / "miniature"
    if values["device"] == "auto":
        import torch

        values["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    return Job(**values)


def main() -> None:
    """Run one part."""
    if len(sys.argv) > 1 and sys.argv[1] in CHECKS:
        importlib.import_module(f"miniature.{sys.argv[1]}").main(sys.argv[2:])
        return
    os.environ.setdefault("MINIATURE_STARTED", str(time.time()))
    options = make_parser().parse_args()
    if options.gpus > 1 and "RANK" not in os.environ:
        from miniature.ranks import spawn

        raise SystemExit(spawn(options.gpus))
    job = make_job(options)
    importlib.import_module(f"miniature.{job.part}").run(job)


if __name__ == "__main__":
    main()
