"""The UNet: epsilon prediction on cached latents, with the frozen text tower's hidden states cached too."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from miniature.captions import NEGATIVE_ROWS, CaptionBank, build_bank
from miniature.clip import bank_on_device
from miniature.latents import Slot, load_latents
from miniature.models import build_clip, build_unet, build_vae, load_trained, seeded, vae_scaling_factor
from miniature.pictures import PictureSet, load_pictures
from miniature.randomness import seed_for, torch_generator
from miniature.rendering import encode_prompts, make_sampler, render
from miniature.settings import MAX_TOKENS, TEXT_HIDDEN, TRAIN_TIMESTEPS, Job
from miniature.sheets import save_sheet
from miniature.styles import STYLE_NAMES
from miniature.tokenizer import load_tokenizer
from miniature.training import Part, layout, prepare_device, train

PHOTO_SHARE = 0.35
DROPOUT_SHARE = 0.1
SNR_GAMMA = 5.0
BUCKETS = 5
SHEET_PROMPTS = (
    "a photo of cat face",
    "a photo of dog face",
    "a photo of sks cat face",
    "a photo of siamese cat face",
    "a photo of persian cat face",
    "a photo of russian blue cat face",
    "a photo of sphynx cat face",
    "a photo of pug dog face",
    "a photo of beagle dog face",
    "a photo of samoyed dog face",
    "a photo of yorkshire terrier dog face",
    "a photo of shiba inu dog face",
    "a pencil sketch of cat face",
    "a watercolour of bengal cat face",
    "an oil painting of sks dog face",
    "pixel art of pug dog face",
    "portrait of sks cat face, anime style",
    "a cartoon of beagle dog face",
    "a photo of ragdoll cat face, at night",
    "a photo of sks cat face, in the snow",
    "portrait of sks cat face, in the forest",
    "a mosaic of cat face",
    "portrait of sks dog face, classic art style",
    "a neon drawing of maine coon cat face",
)


class UnetLosses(nn.Module):
    """Min-SNR-weighted error of the predicted noise."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("alphas_cumprod", make_sampler().alphas_cumprod.float(), persistent=False)

    def errors(self, latents: Tensor, noise: Tensor, timesteps: Tensor, text: Tensor, **extra: Any) -> Tensor:
        """Mean squared error of the noise in each picture, (B,) (Ho et al. 2020, arXiv 2006.11239, equation 14)."""
        alpha = self.alphas_cumprod[timesteps][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        predicted = self.unet(noisy, timesteps, text, return_dict=False, **extra)[0]
        return (predicted.float() - noise).square().mean((1, 2, 3))

    def weights(self, timesteps: Tensor) -> Tensor:
        """min(SNR, gamma) / SNR (Hang et al. 2023, arXiv 2303.09556, equation 6 for epsilon prediction)."""
        alpha = self.alphas_cumprod[timesteps]
        snr = alpha / (1 - alpha)
        return snr.clamp(max=SNR_GAMMA) / snr

    def forward(self, latents: Tensor, noise: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """Stacked: weighted error, plain error."""
        errors = self.errors(latents, noise, timesteps, text)
        return torch.stack([(self.weights(timesteps) * errors).mean(), errors.mean()])


class TextTable:
    """Hidden states of all captions of the bank; the rows for caption dropout come last."""

    def __init__(self, job: Job, pictures: PictureSet) -> None:
        self.tokenizer = load_tokenizer(job.work / "tokenizer")
        clip = load_trained(build_clip(self.tokenizer), job.work, "clip").to(job.device)
        self.text_model = clip.text_model
        self.bank: CaptionBank = build_bank(self.tokenizer, pictures.breeds, job.captions_per_class, job.seed)
        table = bank_on_device(self.bank, job.device)
        ids = torch.cat([table["token_ids"], table["unconditional_ids"]])
        dtype = torch.bfloat16 if job.device.startswith("cuda") else torch.float32
        self.states = torch.empty(len(ids), MAX_TOKENS, TEXT_HIDDEN, dtype=dtype, device=job.device)
        with torch.no_grad():
            for start in range(0, len(ids), 1024):
                rows = slice(start, start + 1024)
                self.states[rows] = self.text_model(input_ids=ids[rows]).last_hidden_state.to(dtype)

    def draw(self, generator: torch.Generator, style: Tensor, breed: Tensor, breeds: int, dropout: float) -> Tensor:
        """Hidden states (B, 77, hidden) of a random caption for each style and breed."""
        device, count, each = generator.device, len(style), self.bank.captions_per_class
        row = (style * breeds + breed) * each + torch.randint(each, (count,), generator=generator, device=device)
        first = len(self.states) - NEGATIVE_ROWS
        other = first + torch.randint(NEGATIVE_ROWS, (count,), generator=generator, device=device)
        drops = torch.rand(count, generator=generator, device=device) < dropout
        return self.states[torch.where(drops, other, row)]


def slot_drawer(slots: list[Slot], photo_share: float, device: str) -> Any:
    """A function that draws slot indices: photos with `photo_share`, the other styles evenly."""
    counts = torch.bincount(torch.tensor([slot.style for slot in slots]), minlength=len(STYLE_NAMES)).double()
    share = torch.full((len(STYLE_NAMES),), (1 - photo_share) / (len(STYLE_NAMES) - 1)).double()
    share[0] = photo_share
    chance = torch.tensor([float(share[slot.style] / counts[slot.style]) for slot in slots])
    limits = (chance.cumsum(0) / chance.sum())[:-1].to(device)

    def draw(generator: torch.Generator, count: int) -> Tensor:
        return torch.bucketize(torch.rand(count, generator=generator, device=device), limits)

    return draw


def _draw_function(latents: Tensor, slots: list[Slot], text: TextTable, pictures: PictureSet, device: str) -> Any:
    rows = latents.view(-1, *latents.shape[2:])  # (slots * pictures, 4, 32, 32)
    count, breeds = latents.shape[1], len(pictures.breeds)
    style_of = torch.tensor([slot.style for slot in slots], device=device)
    breed_of = torch.from_numpy(pictures.breed[pictures.train]).to(device)
    draw_slots = slot_drawer(slots, PHOTO_SHARE, device)

    def draw(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
        slot = draw_slots(generator, batch)
        picture = torch.randint(count, (batch,), generator=generator, device=device)
        clean = rows[slot * count + picture].float().contiguous(memory_format=layout(device))
        noise = torch.randn(clean.shape, generator=generator, device=device)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (batch,), generator=generator, device=device)
        states = text.draw(generator, style_of[slot], breed_of[picture], breeds, DROPOUT_SHARE)
        return clean, noise, timesteps, states

    return draw


def validation(losses: UnetLosses, val: Tensor, text: TextTable, pictures: PictureSet, job: Job) -> dict[str, Any]:
    """Mean error at five noise levels, on photos and on all styles, always with the same noise and captions."""
    styles, count = val.shape[:2]
    breed = torch.from_numpy(pictures.breed[pictures.val]).to(job.device)
    means: dict[str, list[float]] = {"photo": [], "styled": []}
    for bucket in range(BUCKETS):
        timestep = int((bucket + 0.5) * TRAIN_TIMESTEPS / BUCKETS)
        generator = torch_generator(job.seed, "validation", bucket, job.device)
        for name, values in means.items():
            picture = torch.arange(count, device=job.device)
            style = picture * 0 if name == "photo" else 1 + picture % (styles - 1)
            states = text.draw(generator, style, breed, len(pictures.breeds), 0.0)
            clean = val[style, picture].float()
            noise = torch.randn(clean.shape, generator=generator, device=job.device)
            times = torch.full((count,), timestep, device=job.device)
            values.append(round(float(losses.errors(clean, noise, times, states).mean()), 5))
    return means


def _write_sheet(job: Job, unet: UNet2DConditionModel, text: TextTable, steps: int) -> None:
    vae = load_trained(build_vae(), job.work, "vae").to(job.device)
    states = encode_prompts(text.text_model, text.tokenizer, list(SHEET_PROMPTS), job.device)
    empty = encode_prompts(text.text_model, text.tokenizer, [""], job.device)
    scale = vae_scaling_factor(job.work)
    sampling_steps = 25 if job.device.startswith("cuda") else 2
    for guidance_scale in (3.0, 6.0):
        pictures = render(unet, vae, scale, states, empty, list(range(len(states))), sampling_steps, guidance_scale)
        name = f"renders_{steps:07d}_guidance{guidance_scale:g}.jpg"
        save_sheet(job.folder / name, list(pictures), [prompt[-30:] for prompt in SHEET_PROMPTS], 6)


def run(job: Job) -> None:
    """Train the UNet; write WORK/unet/ema.safetensors, val.json and contact sheets."""
    prepare_device(job.device)
    pictures = load_pictures(job.work)
    slots, arrays = load_latents(job, "train", "val")
    text = TextTable(job, pictures)
    unet = seeded(build_unet, seed_for(job.seed, "unet")).to(job.device, memory_format=layout(job.device))
    losses = UnetLosses(unet).to(job.device)
    part = Part(
        name="unet",
        network=losses,
        trained=unet,
        saved=unet,
        draw=_draw_function(arrays["train"], slots, text, pictures, job.device),
        loss_names=("loss", "error"),
        validate=lambda: validation(losses, arrays["val"], text, pictures, job),
        fault=lambda result: sum(result["photo"]) + sum(result["styled"]),
    )
    trainer = train(job, part)
    load_trained(unet, job.work, "unet")
    _write_sheet(job, unet, text, trainer.steps)
    trainer.log(sheets=True)
