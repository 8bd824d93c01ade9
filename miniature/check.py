"""Figures of a packaged folder: reconstruction, recognition of pictures and renders, obedience to edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

from miniature.card import figures_table, write_card
from miniature.clip import validation
from miniature.files import write_json
from miniature.package import load_pair
from miniature.pictures import PictureSet, load_pictures
from miniature.recognition import Recogniser, shares, style_prompts
from miniature.rendering import encode_prompts, render
from miniature.settings import CANNY_HIGH, CANNY_LOW, Job
from miniature.sheets import save_sheet
from miniature.styles import STYLE_NAMES
from miniature.tokenizer import load_tokenizer
from miniature.training import precision, prepare_device
from miniature.vae import validation_psnr
from miniature.views import to_pixel_values

TOLERANCE_PX = 2
GUIDANCE_SCALE = 5.0


@dataclass
class Family:
    """The components of a packaged folder, on the device, in single precision."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    clip: Any
    tokenizer: Any
    device: str
    steps: int

    def render(self, prompts: list[str], seeds: list[int], edges: torch.Tensor | None = None) -> np.ndarray:
        """Pictures for prompts, with control where edges are given."""
        text = encode_prompts(self.clip.text_model, self.tokenizer, prompts, self.device)
        empty = encode_prompts(self.clip.text_model, self.tokenizer, [""], self.device)
        scale = float(self.vae.config.scaling_factor)
        control = None if edges is None else self.controlnet
        return render(self.unet, self.vae, scale, text, empty, seeds, self.steps, GUIDANCE_SCALE, control, edges)


def load_family(job: Job) -> Family:
    """Load every component of `--out`."""

    def load(kind: Any, name: str) -> Any:
        return kind.from_pretrained(str(job.out / name)).to(job.device, torch.float32).eval()

    return Family(
        vae=load(AutoencoderKL, "vae"),
        unet=load(UNet2DConditionModel, "unet"),
        controlnet=load(ControlNetModel, "controlnet"),
        clip=load_pair(job.out).to(job.device),
        tokenizer=load_tokenizer(job.out / "tokenizer"),
        device=job.device,
        steps=25 if job.device.startswith("cuda") else 2,
    )


def edge_f1(wanted: np.ndarray, found: np.ndarray) -> float:
    """F1 of two edge maps (H, W) of zeros and non-zeros, a pixel counting as met within two pixels."""
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * TOLERANCE_PX + 1, 2 * TOLERANCE_PX + 1))
    wanted, found = (np.asarray(edges > 0, np.uint8) for edges in (wanted, found))
    if not wanted.any() or not found.any():
        return float(not wanted.any() and not found.any())
    recall = cv2.dilate(found, reach)[wanted > 0].mean()
    precision_share = cv2.dilate(wanted, reach)[found > 0].mean()
    return float(2 * recall * precision_share / max(recall + precision_share, 1e-9))


def check_renders(family: Family, pictures: PictureSet, job: Job) -> dict[str, float]:
    """How often the pair recognises what was asked for: every breed in twelve steps through the styles."""
    recogniser = Recogniser(family.clip, family.tokenizer, pictures.breeds, job.device)
    each = 13 if job.device.startswith("cuda") else 1
    rows, shown, labels = [], [], []
    for style, name in enumerate(STYLE_NAMES if each > 1 else STYLE_NAMES[:2]):
        breeds = [(style * 5 + step * 3) % len(pictures.breeds) for step in range(each)]
        prompts = [
            style_prompts(name, f"{pictures.breeds[breed][1]} {pictures.breeds[breed][0]} face")[0] for breed in breeds
        ]
        renders = family.render(prompts, [1000 * style + step for step in range(each)])
        pixel_values = to_pixel_values(torch.from_numpy(renders).to(job.device))
        rows.append(recogniser.correct(pixel_values, style, torch.tensor(breeds, device=job.device)))
        shown += list(renders[:3])
        labels += [prompt[-30:] for prompt in prompts[:3]]
    save_sheet(job.folder / "renders.jpg", shown, labels, 6)
    return shares(rows) | {"photo_breed_rank1": shares(rows[:1])["breed_rank1"]}


def check_control(family: Family, pictures: PictureSet, job: Job) -> dict[str, float]:
    """Mean Canny F1 of renders with control and of the same seeds without."""
    chosen = pictures.val[: 48 if job.device.startswith("cuda") else 2]
    edges = np.stack([cv2.Canny(np.array(pictures.pixels[index, 0]), CANNY_LOW, CANNY_HIGH) for index in chosen])
    hints = torch.from_numpy((edges > 0).astype(np.float32)).to(job.device)[:, None].repeat(1, 3, 1, 1)
    prompts = [f"portrait of {pictures.breeds[pictures.breed[index]][0]} face" for index in chosen]
    seeds = list(range(5000, 5000 + len(chosen)))
    means = {}
    for name, control in (("with_control", hints), ("without", None)):
        renders = family.render(prompts, seeds, control)
        scores = [
            edge_f1(wanted, cv2.Canny(result, CANNY_LOW, CANNY_HIGH))
            for wanted, result in zip(edges, renders, strict=True)
        ]
        means[name] = round(float(np.mean(scores)), 4)
    return means


def run(job: Job) -> None:
    """Print the table; write WORK/check/check.json and the figures into the packaged folder's card."""
    prepare_device(job.device)
    torch.backends.cudnn.benchmark = False
    pictures = load_pictures(job.work)
    family = load_family(job)
    with torch.no_grad(), precision(job.device):
        reconstruction = validation_psnr(family.vae, pictures, job.device, list(range(len(STYLE_NAMES))))
        pair = validation(family.clip, family.tokenizer, pictures, job.device)
    renders = check_renders(family, pictures, job)
    control = check_control(family, pictures, job)
    figures = {
        "vae_psnr_photo_db": reconstruction["photo"],
        "vae_psnr_all_styles_db": round(float(np.mean(list(reconstruction.values()))), 2),
        **{f"pair_photo_{name}": value for name, value in pair["photo"].items() if name != "style"},
        "pair_all_styles_style": pair["all_styles"]["style"],
        **{f"renders_{name}": value for name, value in renders.items()},
        **{f"canny_f1_{name}": value for name, value in control.items()},
    }
    details = {"vae_psnr_db": reconstruction, "pair": pair, "renders": renders, "control": control}
    write_json(job.folder / "check.json", {"figures": figures, "details": details})
    write_card(job.out, job.work)
    print(figures_table(figures), flush=True)
