"""The CLIP pair: contrastive on composed captions, helped by features of a network that has seen more than pets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from miniature.captions import CaptionBank, build_bank
from miniature.files import write_json
from miniature.models import build_clip, load_trained, seeded
from miniature.perception import Perception
from miniature.pictures import PictureSet, load_pictures
from miniature.randomness import seed_for
from miniature.recognition import Recogniser, embed_tokens, shares
from miniature.settings import PICTURE_PX, TEACHER_PX, VISION_HIDDEN, Job
from miniature.styles import STYLE_NAMES
from miniature.tokenizer import load_tokenizer
from miniature.training import Part, layout, precision, prepare_device, train
from miniature.views import CLIP_VIEWS, draw_styles, draw_transforms, make_views, to_pixel_values, upload

PHOTO_SHARE = 0.3
DISTILLATION_WEIGHT = 2.0
LARGEST_LOGIT_SCALE = 4.6052
JITTER = 0.08


class ClipLosses(nn.Module):
    """Contrast of pictures with captions, and the teacher's features through a head that is thrown away."""

    def __init__(self, clip: CLIPModel, teacher: Perception) -> None:
        super().__init__()
        self.clip, self.teacher = clip, teacher
        self.head = nn.Sequential(nn.Linear(VISION_HIDDEN, 640), nn.GELU(), nn.Linear(640, teacher.width))

    def forward(self, views: Tensor, token_ids: Tensor, match: Tensor) -> Tensor:
        """Stacked: weighted sum, contrast, distillation. `match` (B, B): does caption j describe picture i?"""
        small = F.interpolate(views, (128, 128), mode="bilinear", antialias=True)
        pooled = self.clip.vision_model(pixel_values=small).pooler_output  # (B, hidden)
        images = F.normalize(self.clip.visual_projection(pooled).float(), dim=-1)
        texts = embed_tokens(self.clip, token_ids)
        scale = self.clip.logit_scale.clamp(max=LARGEST_LOGIT_SCALE).exp()
        contrast = matched_contrast(scale * images @ texts.T, match)
        with torch.no_grad():
            wanted = self.teacher.pooled(views).float()
            wanted = wanted - wanted.mean(0)
        distillation = 1 - F.cosine_similarity(self.head(pooled).float(), wanted, dim=-1).mean()
        return torch.stack([contrast + DISTILLATION_WEIGHT * distillation, contrast, distillation])


def matched_contrast(logits: Tensor, match: Tensor) -> Tensor:
    """Contrast with several right answers, both ways (UniCL: Yang et al. 2022, arXiv 2204.03610, equations 3 to 5)."""
    to_text = (match / match.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1)
    to_image = (match / match.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0)
    return -(to_text.mean() + to_image.mean()) / 2


def describes(bank: dict[str, Tensor], rows: Tensor, style: Tensor, breed: Tensor, species: Tensor) -> Tensor:
    """match[i, j]: caption `rows[j]` is true of picture i (same style and species; the same breed or none)."""
    same_style = style[:, None] == bank["style"][rows][None]
    same_species = species[:, None] == bank["species"][rows][None]
    named = bank["breed"][rows][None]
    return (same_style & same_species & ((named < 0) | (named == breed[:, None]))).float()  # (B, B)


def bank_on_device(bank: CaptionBank, device: str) -> dict[str, Tensor]:
    """The bank's arrays as tensors."""
    names = ("token_ids", "style", "breed", "species", "unconditional_ids")
    return {name: torch.from_numpy(getattr(bank, name)).to(device) for name in names}


def _draw_function(pixels: Tensor, pictures: PictureSet, bank: CaptionBank, device: str) -> Any:
    rows = pixels.view(-1, PICTURE_PX, PICTURE_PX, 3)  # (pictures * styles, 256, 256, 3)
    count, styles, breeds = len(pixels), len(STYLE_NAMES), len(pictures.breeds)
    breed_of = torch.from_numpy(pictures.breed[pictures.train]).to(device)
    species_of = torch.from_numpy(pictures.species[pictures.train]).to(device)
    table = bank_on_device(bank, device)

    def draw(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
        index = torch.randint(count, (batch,), generator=generator, device=device)
        style = draw_styles(generator, batch, styles, PHOTO_SHARE)
        views = make_views(rows[index * styles + style], draw_transforms(generator, batch, CLIP_VIEWS), TEACHER_PX)
        jitter = 1 + JITTER * (2 * torch.rand(batch, 2, 1, 1, 1, generator=generator, device=device) - 1)
        views = (views * jitter[:, 0] + jitter[:, 1] - 1).clamp(-1, 1).contiguous(memory_format=layout(device))
        choice = torch.randint(bank.captions_per_class, (batch,), generator=generator, device=device)
        row = (style * breeds + breed_of[index]) * bank.captions_per_class + choice
        return views, table["token_ids"][row], describes(table, row, style, breed_of[index], species_of[index])

    return draw


def validation(clip: CLIPModel, tokenizer: Any, pictures: PictureSet, device: str) -> dict[str, Any]:
    """Shares recognised on the validation pictures: photos alone and all styles."""
    recogniser = Recogniser(clip, tokenizer, pictures.breeds, device)
    rows = []
    for style in range(len(STYLE_NAMES)):
        pixel_values = to_pixel_values(torch.from_numpy(np.array(pictures.pixels[pictures.val, style])).to(device))
        breed = torch.from_numpy(pictures.breed[pictures.val]).to(device)
        rows.append(recogniser.correct(pixel_values, style, breed))
    return {"photo": shares(rows[:1]), "all_styles": shares(rows)}


def pooled_distance(clip: CLIPModel, tokenizer: Any, device: str) -> float:
    """Distance between two prompts' embeddings: zero would mean that the eos id is wrong."""
    from miniature.captions import token_rows

    ids = token_rows(tokenizer, ["a photo of cat face", "a pencil sketch of dog face"])
    with torch.no_grad():
        first, second = embed_tokens(clip, torch.from_numpy(ids).to(device))
    return float((first - second).norm())


def run(job: Job) -> None:
    """Train the pair; write WORK/clip/ema.safetensors, val.json, result.json."""
    prepare_device(job.device)
    pictures = load_pictures(job.work)
    tokenizer = load_tokenizer(job.work / "tokenizer")
    bank = build_bank(tokenizer, pictures.breeds, job.captions_per_class, job.seed)
    clip = seeded(build_clip, seed_for(job.seed, "clip"), tokenizer).to(job.device)
    if pooled_distance(clip, tokenizer, job.device) < 1e-3:
        raise AssertionError("two prompts have equal pooled embeddings: eos_token_id is not the tokenizer's")
    teacher = Perception(job.efficientnet).to(job.device, memory_format=layout(job.device))
    network = seeded(ClipLosses, seed_for(job.seed, "clip head"), clip, teacher).to(job.device)
    pixels = upload(pictures.pixels, pictures.train, job.device)
    part = Part(
        name="clip",
        network=network,
        trained=nn.ModuleDict({"clip": clip, "head": network.head}),
        saved=clip,
        draw=_draw_function(pixels, pictures, bank, job.device),
        loss_names=("loss", "contrast", "distillation"),
        validate=lambda: validation(clip, tokenizer, pictures, job.device),
        fault=lambda result: -result["all_styles"]["breed_rank1"] - result["all_styles"]["style"],
    )
    trainer = train(job, part)
    load_trained(clip, job.work, "clip")
    with torch.no_grad(), precision(job.device):
        result = {"steps": trainer.steps} | validation(clip, tokenizer, pictures, job.device)
    write_json(job.folder / "result.json", result)
    trainer.log(**result, pooled_distance=pooled_distance(clip, tokenizer, job.device))
