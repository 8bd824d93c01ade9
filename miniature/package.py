"""The trained family as a diffusers folder in half precision, no file over 15 MiB; proof that it loads and renders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miniature.card import write_card
from miniature.files import write_json, written_whole
from miniature.models import build_clip, build_controlnet, build_unet, build_vae, load_trained, vae_scaling_factor
from miniature.rendering import make_sampler
from miniature.settings import CLIP_PX, Job
from miniature.sheets import save_sheet
from miniature.tokenizer import load_tokenizer

RECOMMENDED = Path(__file__).parent / "limner.json"
LARGEST_FILE_BYTES = 15 * 2**20
FAMILY_BYTES = 48 * 2**20
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": CLIP_PX},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": CLIP_PX, "width": CLIP_PX},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def halves(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """The weights in half precision under their names in the file."""
    weights = {prefix + name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}


def write_weights(folder: Path, stem: str, weights: dict[str, Tensor]) -> None:
    """One safetensors file, or several of at most 15 MiB with the usual index."""
    shards: list[dict[str, Tensor]] = [{}]
    used_bytes = 2**16  # room for the header
    for name, value in weights.items():
        size_bytes = value.numel() * value.element_size()
        if used_bytes + size_bytes > LARGEST_FILE_BYTES:
            shards.append({})
            used_bytes = 2**16
        shards[-1][name] = value
        used_bytes += size_bytes
    if len(shards) == 1:
        save_whole(folder / f"{stem}.safetensors", shards[0])
        return
    place = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        save_whole(folder / file_name, shard)
        place |= dict.fromkeys(shard, file_name)
    total_bytes = sum(value.numel() * value.element_size() for value in weights.values())
    write_json(
        folder / f"{stem}.safetensors.index.json", {"metadata": {"total_size": total_bytes}, "weight_map": place}
    )


def save_whole(path: Path, weights: dict[str, Tensor]) -> None:
    """Write one safetensors file."""
    with written_whole(path) as temporary:
        save_file(weights, str(temporary), metadata={"format": "pt"})


def write_diffusers_model(model: Any, folder: Path) -> None:
    """config.json and the weights of a diffusers model."""
    config = json.loads(model.to_json_string())
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)
    write_weights(folder, "diffusion_pytorch_model", halves(model))


def write_clip(clip: Any, out: Path) -> None:
    """The text tower into text_encoder/, everything else of the pair into clip/."""
    text_config = clip.config.text_config.to_dict() | {"architectures": ["CLIPTextModel"], "dtype": "float16"}
    write_json(out / "text_encoder" / "config.json", text_config)
    write_weights(out / "text_encoder", "model", halves(clip.text_model, prefix="text_model."))
    pair_config = clip.config.to_dict() | {"architectures": ["CLIPModel"], "dtype": "float16"}
    write_json(out / "clip" / "config.json", pair_config)
    rest = {name: value for name, value in halves(clip).items() if not name.startswith("text_model.")}
    write_weights(out / "clip", "model", rest)
    write_json(out / "clip" / "preprocessor_config.json", PREPROCESSOR)


def load_pair(out: Path) -> Any:
    """The CLIP pair of a packaged folder: clip/ with the text tower out of text_encoder/."""
    from transformers import CLIPConfig, CLIPModel

    clip = CLIPModel(CLIPConfig.from_pretrained(str(out / "clip")))
    weights = load_file(str(out / "clip" / "model.safetensors")) | load_file(
        str(out / "text_encoder" / "model.safetensors")
    )
    clip.load_state_dict({name: value.float() for name, value in weights.items()})
    return clip.eval()


def write_family(job: Job, folder: Path) -> None:
    """All files of the packaged folder but the model card."""
    tokenizer_folder = job.work / "tokenizer"
    shutil.copytree(tokenizer_folder, folder / "tokenizer")
    write_json(folder / "model_index.json", INDEX)
    shutil.copy(RECOMMENDED, folder / RECOMMENDED.name)
    make_sampler().save_pretrained(folder / "scheduler")
    vae = load_trained(build_vae(), job.work, "vae")
    vae.register_to_config(scaling_factor=round(vae_scaling_factor(job.work), 6))
    write_diffusers_model(vae, folder / "vae")
    unet = load_trained(build_unet(), job.work, "unet")
    write_diffusers_model(unet, folder / "unet")
    controlnet = load_trained(build_controlnet(unet), job.work, "controlnet")
    write_diffusers_model(controlnet, folder / "controlnet")
    write_clip(load_trained(build_clip(load_tokenizer(tokenizer_folder)), job.work, "clip"), folder)


def check_sizes(folder: Path) -> dict[str, float]:
    """MiB of each subfolder; complains about a file or a family that is too large."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise AssertionError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST_FILE_BYTES}")
    total_bytes = sum(path.stat().st_size for path in files)
    if total_bytes > FAMILY_BYTES:
        raise AssertionError(f"the family has {total_bytes} bytes, more than {FAMILY_BYTES}")
    sizes = {child.name: 0.0 for child in folder.iterdir() if child.is_dir()}
    for path in files:
        if path.parent != folder:
            sizes[path.parent.name] += path.stat().st_size / 2**20
    return {name: round(size, 2) for name, size in sizes.items()} | {"total": round(total_bytes / 2**20, 2)}


def check_keys(folder: Path) -> None:
    """Every component loads with no key missing, left over or of another shape."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextModel

    for name, kind in (
        ("vae", AutoencoderKL),
        ("unet", UNet2DConditionModel),
        ("controlnet", ControlNetModel),
        ("text_encoder", CLIPTextModel),
    ):
        _, information = kind.from_pretrained(str(folder / name), output_loading_info=True)
        wrong = {key: sorted(value) for key, value in information.items() if value}
        if wrong:
            raise AssertionError(f"{name} does not load cleanly: {wrong}")
    load_pair(folder)


def render_proof(folder: Path, device: str) -> list[Any]:
    """Two renders through diffusers' own pipelines, without and with control."""
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline

    steps = 25 if device.startswith("cuda") else 2
    pipeline = StableDiffusionPipeline.from_pretrained(str(folder)).to(device, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    common = {"num_inference_steps": steps, "guidance_scale": 5.0, "output_type": "np"}
    first = pipeline("a photo of sks cat face", generator=torch.Generator().manual_seed(0), **common).images[0]
    controlnet = ControlNetModel.from_pretrained(str(folder / "controlnet")).to(device, torch.float32)
    controlled = StableDiffusionControlNetPipeline(**pipeline.components, controlnet=controlnet)
    controlled.set_progress_bar_config(disable=True)
    hint = torch.zeros(1, 3, 256, 256)
    hint[:, :, 64:192, 64] = hint[:, :, 64:192, 191] = 1
    second = controlled(
        "portrait of dog face", image=hint, generator=torch.Generator().manual_seed(0), **common
    ).images[0]
    pictures = [(picture * 255).round().astype("uint8") for picture in (first, second)]
    if any(picture.shape != (256, 256, 3) or picture.std() < 1 for picture in pictures):
        raise AssertionError("the packaged pipeline renders flat pictures")
    return pictures


def run(job: Job) -> None:
    """Write the folder beside `--out`, prove it, then put it in place."""
    fresh = job.out.with_name(job.out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write_family(job, fresh)
    write_card(fresh, job.work)
    for name, size in check_sizes(fresh).items():
        print(f"package: {name} {size} MiB", flush=True)
    check_keys(fresh)
    pictures = render_proof(fresh, job.device)
    save_sheet(job.folder / "proof.jpg", pictures, ["a photo of sks cat face", "portrait of dog face, control"], 2)
    shutil.rmtree(job.out, ignore_errors=True)
    fresh.rename(job.out)
    print(f"package: {job.out} loads and renders", flush=True)
