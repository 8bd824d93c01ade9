"""Latents of augmented views of every picture in every style, and Canny edges of the same views of the photos.

A view's transform depends on (picture, view) and not on the style, so the edges of a photo fit all its styles.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from miniature.files import Log, read_json, save_array, write_json
from miniature.models import build_vae, load_trained, vae_scaling_factor
from miniature.pictures import PictureSet, load_pictures
from miniature.randomness import torch_generator
from miniature.settings import CANNY_HIGH, CANNY_LOW, CONTROL_VIEWS, LATENT_PX, PICTURE_PX, Job
from miniature.styles import STYLE_NAMES
from miniature.training import layout, precision, prepare_device
from miniature.vae import posterior
from miniature.views import LATENT_VIEWS, draw_transforms, make_views, to_pictures, to_pixel_values, upload

ENCODE_BATCH = 192


@dataclass(frozen=True)
class Slot:
    """One column of the latent table: every training picture in one style and view."""

    style: int
    view: int


def make_slots(photo_views: int, style_views: int) -> list[Slot]:
    """Photos get more views than the other styles."""
    counts = [photo_views] + [style_views] * (len(STYLE_NAMES) - 1)
    return [Slot(style, view) for style, count in enumerate(counts) for view in range(count)]


def canny_edges(picture: np.ndarray) -> np.ndarray:
    """Edges as limner's control stage takes them, packed eight pixels a byte: (256, 32) uint8."""
    return np.packbits(cv2.Canny(picture, CANNY_LOW, CANNY_HIGH) > 0, axis=1)


def unpack_edges(packed: Tensor) -> Tensor:
    """(B, 256, 32) uint8 to a conditioning image (B, 3, 256, 256) of zeros and ones."""
    shifts = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    bits = (packed[..., None] >> shifts) & 1  # (B, 256, 32, 8)
    return bits.flatten(2).float()[:, None].expand(-1, 3, -1, -1)


class Encoder:
    """The VAE's encoder with scaled results."""

    def __init__(self, job: Job) -> None:
        vae = load_trained(build_vae(), job.work, "vae")
        self._vae = vae.to(job.device, memory_format=layout(job.device))
        self._scale = vae_scaling_factor(job.work)
        self._device = job.device

    @torch.no_grad()
    def __call__(self, views: Tensor) -> Tensor:
        """Scaled means of the latents, (B, 4, 32, 32) half precision."""
        with precision(self._device):
            mean, _ = posterior(self._vae, views.contiguous(memory_format=layout(self._device)))
        return (mean * self._scale).half()


def _encode_train(job: Job, pixels: Tensor, slots: list[Slot], log: Log) -> tuple[Tensor, np.ndarray]:
    """Latents (slots, pictures, 4, 32, 32) and packed edges (control views, pictures, 256, 32)."""
    encoder = Encoder(job)
    pictures, views = len(pixels), 1 + max(slot.view for slot in slots)
    shape = (len(slots), pictures, 4, LATENT_PX, LATENT_PX)
    latents = torch.empty(shape, dtype=torch.float16, device=job.device)
    edges = np.zeros((min(CONTROL_VIEWS, views), pictures, PICTURE_PX, PICTURE_PX // 8), np.uint8)
    with ThreadPoolExecutor(job.workers) as pool:
        for view in range(views):
            transforms = draw_transforms(
                torch_generator(job.seed, "latent views", view, job.device), pictures, LATENT_VIEWS
            )
            for start in range(0, pictures, ENCODE_BATCH):
                rows = slice(start, min(start + ENCODE_BATCH, pictures))
                for index, slot in enumerate(slots):
                    if slot.view == view:
                        sample = make_views(pixels[rows, slot.style], transforms[rows], mode="bicubic")
                        latents[index, rows] = encoder(sample)
                        if slot.style == 0 and view < len(edges):
                            edges[view, rows] = np.stack(list(pool.map(canny_edges, to_pictures(sample))))
            log(view=view, of=views)
    return latents, edges


def _encode_val(job: Job, pictures: PictureSet) -> tuple[np.ndarray, np.ndarray]:
    """Untouched validation pictures: latents (styles, pictures, 4, 32, 32) and packed edges of the photos."""
    encoder = Encoder(job)
    results = []
    for style in range(len(STYLE_NAMES)):
        sample = torch.from_numpy(np.array(pictures.pixels[pictures.val, style])).to(job.device)
        results.append(encoder(to_pixel_values(sample)).cpu().numpy())
    edges = np.stack([canny_edges(np.array(pictures.pixels[index, 0])) for index in pictures.val])
    return np.stack(results), edges


def run(job: Job) -> None:
    """Write WORK/latents: train.npy, edges.npy, val.npy, val_edges.npy, slots.json."""
    prepare_device(job.device)
    torch.backends.cudnn.benchmark = False  # the last batch of each view has its own shape
    cv2.setNumThreads(1)
    log = Log(job.folder / "log.jsonl", "latents")
    pictures = load_pictures(job.work)
    slots = make_slots(job.photo_views, job.style_views)
    (job.folder / "slots.json").unlink(missing_ok=True)  # stands only beside complete arrays
    pixels = upload(pictures.pixels, pictures.train, job.device)
    latents, edges = _encode_train(job, pixels, slots, log)
    val_latents, val_edges = _encode_val(job, pictures)
    deviation = float(latents[:, :: max(1, len(pixels) // 64)].float().std())
    for name, array in (
        ("train", latents.cpu().numpy()),
        ("edges", edges),
        ("val", val_latents),
        ("val_edges", val_edges),
    ):
        save_array(job.folder / f"{name}.npy", array)
    write_json(job.folder / "slots.json", {"slots": [[slot.style, slot.view] for slot in slots]})
    log(slots=len(slots), pictures=len(pixels), deviation=deviation, edge_share=float(np.unpackbits(edges[0]).mean()))


def load_latents(job: Job, *names: str) -> tuple[list[Slot], dict[str, Tensor]]:
    """The slots and the named arrays, on the device."""
    folder = job.work / "latents"
    slots = [Slot(*pair) for pair in read_json(folder / "slots.json")["slots"]]
    arrays: dict[str, Any] = {name: torch.from_numpy(np.load(folder / f"{name}.npy")).to(job.device) for name in names}
    return slots, arrays
