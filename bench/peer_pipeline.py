"""Render with diffusers' own pipeline, as its documentation has it, and note how it advances.

`python -m bench.peer_pipeline RECORD BASE --batch 4 --size 512 512 --steps 35 --calls 4 --out FOLDER`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

STARTED = time.time()


def load_pipeline(base: Path, device: str, *, controlnet: bool) -> Any:
    """The pipeline in fp16 on a GPU, fp32 elsewhere, its bars off."""
    import torch
    from diffusers import (
        ControlNetModel,
        DDIMScheduler,
        StableDiffusionControlNetPipeline,
        StableDiffusionPipeline,
        UniPCMultistepScheduler,
    )

    dtype = torch.float16 if device == "cuda" else torch.float32
    if controlnet:
        net = ControlNetModel.from_pretrained(base / "controlnet", torch_dtype=dtype)
        pipeline = StableDiffusionControlNetPipeline.from_pretrained(
            base, controlnet=net, torch_dtype=dtype, safety_checker=None
        )
        pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    else:
        pipeline = StableDiffusionPipeline.from_pretrained(base, torch_dtype=dtype, safety_checker=None)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def main() -> None:
    """Render `--calls` batches and write each as PNG files."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_pipeline", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="width and height")
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--guidance-scale", type=float, default=7.0)
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--controlnet", type=Path, help="condition on this picture")
    options = parser.parse_args()
    import torch
    from PIL import Image

    from bench.records import Record, memory_used

    pipeline = load_pipeline(options.base, options.device, controlnet=options.controlnet is not None)
    width, height = options.size
    more = {}
    if options.controlnet is not None:
        more["image"] = [Image.open(options.controlnet).convert("RGB").resize((width, height))] * options.batch
    options.out.mkdir(parents=True, exist_ok=True)
    marks: list[tuple[int, float]] = []
    for call in range(options.calls):
        images = pipeline(
            ["a photo of sks cat"] * options.batch,
            negative_prompt=["deformed, blurry"] * options.batch,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance_scale,
            width=width,
            height=height,
            generator=torch.Generator(options.device).manual_seed(call),
            **more,
        ).images
        for index, image in enumerate(images):
            image.save(options.out / f"{call:03d}-{index:02d}.png")
        marks.append(((call + 1) * options.batch, time.time()))
    Record(STARTED, time.time(), marks, **memory_used()).write(options.record)


if __name__ == "__main__":
    main()
