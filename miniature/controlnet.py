"""The ControlNet for Canny edges: the UNet and the text tower stay frozen."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from miniature.latents import Slot, load_latents, unpack_edges
from miniature.models import build_controlnet, build_unet, build_vae, load_trained, seeded, vae_scaling_factor
from miniature.pictures import PictureSet, load_pictures
from miniature.randomness import seed_for, torch_generator
from miniature.rendering import encode_prompts, render
from miniature.settings import TRAIN_TIMESTEPS, Job
from miniature.sheets import save_sheet
from miniature.styles import STYLE_NAMES
from miniature.training import Part, layout, prepare_device, train
from miniature.unet import BUCKETS, TextTable, UnetLosses, slot_drawer

PHOTO_SHARE = 0.5
DROPOUT_SHARE = 0.3
"""More than the UNet's: without a caption the edges must do (Zhang et al. 2023, section 3.4, use a half)."""
SHEET_PICTURES = 6


class ControlLosses(nn.Module):
    """The UNet's error when it is helped by the ControlNet's residuals."""

    def __init__(self, losses: UnetLosses, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.losses, self.controlnet = losses, controlnet

    def errors(self, latents: Tensor, noise: Tensor, timesteps: Tensor, text: Tensor, edges: Tensor) -> Tensor:
        """Mean squared error of the noise in each picture, (B,)."""
        alpha = self.losses.alphas_cumprod[timesteps][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        down, middle = self.controlnet(noisy, timesteps, text, edges, return_dict=False)
        extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return self.losses.errors(latents, noise, timesteps, text, **extra)

    def forward(self, latents: Tensor, noise: Tensor, timesteps: Tensor, text: Tensor, edges: Tensor) -> Tensor:
        """Stacked: weighted error, plain error."""
        errors = self.errors(latents, noise, timesteps, text, edges)
        return torch.stack([(self.losses.weights(timesteps) * errors).mean(), errors.mean()])


def _draw_function(
    arrays: dict[str, Tensor], slots: list[Slot], text: TextTable, pictures: PictureSet, device: str
) -> Any:
    """Like the UNet's, from the slots whose view has edges."""
    views = len(arrays["edges"])
    usable = [index for index, slot in enumerate(slots) if slot.view < views]
    slot_of = torch.tensor(usable, device=device)
    style_of = torch.tensor([slots[index].style for index in usable], device=device)
    view_of = torch.tensor([slots[index].view for index in usable], device=device)
    count, breeds = arrays["train"].shape[1], len(pictures.breeds)
    latents = arrays["train"].view(-1, *arrays["train"].shape[2:])  # (slots * pictures, 4, 32, 32)
    edges = arrays["edges"].view(-1, *arrays["edges"].shape[2:])  # (views * pictures, 256, 32)
    breed_of = torch.from_numpy(pictures.breed[pictures.train]).to(device)
    draw_slots = slot_drawer([slots[index] for index in usable], PHOTO_SHARE, device)

    def draw(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
        slot = draw_slots(generator, batch)
        picture = torch.randint(count, (batch,), generator=generator, device=device)
        clean = latents[slot_of[slot] * count + picture].float().contiguous(memory_format=layout(device))
        noise = torch.randn(clean.shape, generator=generator, device=device)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (batch,), generator=generator, device=device)
        states = text.draw(generator, style_of[slot], breed_of[picture], breeds, DROPOUT_SHARE)
        hints = unpack_edges(edges[view_of[slot] * count + picture]).contiguous(memory_format=layout(device))
        return clean, noise, timesteps, states, hints

    return draw


def validation(
    network: ControlLosses, arrays: dict[str, Tensor], text: TextTable, pictures: PictureSet, job: Job
) -> Any:
    """Mean error on validation photos at five noise levels, with and without control."""
    breed = torch.from_numpy(pictures.breed[pictures.val]).to(job.device)
    edges = unpack_edges(arrays["val_edges"])
    clean = arrays["val"][0].float()
    means: dict[str, list[float]] = {"with_control": [], "without": []}
    for bucket in range(BUCKETS):
        generator = torch_generator(job.seed, "validation", bucket, job.device)
        states = text.draw(generator, breed * 0, breed, len(pictures.breeds), 0.0)
        noise = torch.randn(clean.shape, generator=generator, device=job.device)
        times = torch.full((len(clean),), int((bucket + 0.5) * TRAIN_TIMESTEPS / BUCKETS), device=job.device)
        means["with_control"].append(round(float(network.errors(clean, noise, times, states, edges).mean()), 5))
        means["without"].append(round(float(network.losses.errors(clean, noise, times, states).mean()), 5))
    return means


def _write_sheet(
    job: Job, network: ControlLosses, arrays: dict[str, Tensor], text: TextTable, pictures: PictureSet
) -> None:
    """Edges, render with control, the same seed without."""
    vae = load_trained(build_vae(), job.work, "vae").to(job.device)
    count = min(SHEET_PICTURES, len(pictures.val))
    chosen = [index * len(pictures.val) // count for index in range(count)]
    styles = [STYLE_NAMES[number] for number in (0, 0, 0, 2, 6, 14)][:count]
    named = [pictures.breeds[pictures.breed[pictures.val[index]]] for index in chosen]
    phrases = {
        "photo": "",
        "watercolour": ", watercolour",
        "anime": ", anime style",
        "classic art": ", classic art style",
    }
    prompts = [f"portrait of {kind[0]} face{phrases[style]}" for kind, style in zip(named, styles, strict=True)]
    states = encode_prompts(text.text_model, text.tokenizer, prompts, job.device)
    empty = encode_prompts(text.text_model, text.tokenizer, [""], job.device)
    edges = unpack_edges(arrays["val_edges"][chosen])
    steps = 25 if job.device.startswith("cuda") else 2
    common = (network.losses.unet, vae, vae_scaling_factor(job.work), states, empty, list(range(count)), steps, 5.0)
    controlled = render(*common, network.controlnet, edges)
    free = render(*common)
    hints = (edges * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    rows = [picture for row in zip(hints, controlled, free, strict=True) for picture in row]
    labels = [label for prompt in prompts for label in ("edges", prompt, "without")]
    save_sheet(job.folder / "control.jpg", rows, labels, 6)


def run(job: Job) -> None:
    """Train the ControlNet; write WORK/controlnet/ema.safetensors, val.json and a contact sheet."""
    prepare_device(job.device)
    pictures = load_pictures(job.work)
    slots, arrays = load_latents(job, "train", "edges", "val", "val_edges")
    text = TextTable(job, pictures)
    unet = load_trained(build_unet(), job.work, "unet")
    controlnet = seeded(build_controlnet, seed_for(job.seed, "controlnet"), unet)
    unet = unet.to(job.device, memory_format=layout(job.device))
    controlnet = controlnet.to(job.device, memory_format=layout(job.device)).train().requires_grad_(True)
    network = ControlLosses(UnetLosses(unet).to(job.device), controlnet)
    part = Part(
        name="controlnet",
        network=network,
        trained=controlnet,
        saved=controlnet,
        draw=_draw_function(arrays, slots, text, pictures, job.device),
        loss_names=("loss", "error"),
        validate=lambda: validation(network, arrays, text, pictures, job),
        fault=lambda result: sum(result["with_control"]),
    )
    trainer = train(job, part)
    load_trained(controlnet, job.work, "controlnet")
    _write_sheet(job, network, arrays, text, pictures)
    trainer.log(sheets=True)
