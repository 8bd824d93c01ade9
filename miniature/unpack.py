"""A packaged family back into WORK: tokenizer and CLIP pair as they are, the rest as a start for more training."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from miniature.files import written_whole
from miniature.package import load_pair
from miniature.settings import Job

STEM = "diffusion_pytorch_model"


def model_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of one diffusers model in float32, from one file or from several with an index."""
    index = folder / f"{STEM}.safetensors.index.json"
    names = [f"{STEM}.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    halves = {name: value for file_name in names for name, value in load_file(str(folder / file_name)).items()}
    return {name: value.float() for name, value in halves.items()}


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Write one safetensors file."""
    with written_whole(path) as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, str(temporary))


def with_small_deviations(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VAE whose latents' deviations begin anew at 0.05, so that no channel stays lost in noise."""
    weight, bias = weights["quant_conv.weight"].clone(), weights["quant_conv.bias"].clone()
    channels = len(bias) // 2
    weight[channels:], bias[channels:] = 0.0, 2 * math.log(0.05)
    return weights | {"quant_conv.weight": weight, "quant_conv.bias": bias}


def run(job: Job) -> None:
    """Write WORK/tokenizer, WORK/clip/ema.safetensors and start.safetensors in WORK/{vae,unet,controlnet}."""
    shutil.copytree(job.out / "tokenizer", job.work / "tokenizer", dirs_exist_ok=True)
    save(load_pair(job.out).state_dict(), job.work / "clip" / "ema.safetensors")
    for name in ("vae", "unet", "controlnet"):
        if (job.out / name).exists():
            weights = model_weights(job.out / name)
            weights = with_small_deviations(weights) if name == "vae" else weights
            save(weights, job.work / name / "start.safetensors")
    print(f"unpack: {job.out} lies in {job.work}", flush=True)
