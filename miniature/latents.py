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
from miniature.ranks import Ranks, join
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


def _encode_train(job: Job, pictures: PictureSet, slots: list[Slot], ranks: Ranks, log: Log) -> tuple[Tensor, Tensor]:
    """Latents (slots, pictures, 4, 32, 32) and packed edges (control views, pictures, 256, 32).

    Each process encodes every n-th picture, then all tell the others.
    """
    encoder = Encoder(job)
    count, views = len(pictures.train), 1 + max(slot.view for slot in slots)
    latents = torch.zeros((len(slots), count, 4, LATENT_PX, LATENT_PX), dtype=torch.float16, device=job.device)
    shape = (min(CONTROL_VIEWS, views), count, PICTURE_PX, PICTURE_PX // 8)
    edges = torch.zeros(shape, dtype=torch.uint8, device=job.device)
    mine = torch.arange(ranks.index, count, ranks.count)
    pixels = upload(pictures.pixels, pictures.train[mine.numpy()], job.device)
    with ThreadPoolExecutor(job.workers) as pool:
        for view in range(views):
            generator = torch_generator(job.seed, "latent views", view, job.device)
            transforms = draw_transforms(generator, count, LATENT_VIEWS)[mine]
            for start in range(0, len(mine), ENCODE_BATCH):
                rows = slice(start, start + ENCODE_BATCH)
                for index, slot in enumerate(slots):
                    if slot.view == view:
                        sample = make_views(pixels[rows, slot.style], transforms[rows], mode="bicubic")
                        latents[index, mine[rows]] = encoder(sample)
                        if slot.style == 0 and view < len(edges):
                            packed = np.stack(list(pool.map(canny_edges, to_pictures(sample))))
                            edges[view, mine[rows]] = torch.from_numpy(packed).to(job.device)
            log(view=view, of=views)
    for source in range(ranks.count):
        theirs = torch.arange(source, count, ranks.count)
        latents[:, theirs] = ranks.share(latents[:, theirs], source)
        edges[:, theirs] = ranks.share(edges[:, theirs], source)
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
    ranks = join()
    log = Log(job.folder / "log.jsonl", "latents", quiet=not ranks.leads)
    pictures = load_pictures(job.work)
    slots = make_slots(job.photo_views, job.style_views)
    (job.folder / "slots.json").unlink(missing_ok=True)  # stands only beside complete arrays
    latents, edges = _encode_train(job, pictures, slots, ranks, log)
    if not ranks.leads:
        return
    val_latents, val_edges = _encode_val(job, pictures)
    count = len(pictures.train)
    deviation = float(latents[:, :: max(1, count // 64)].float().std())
    for name, array in (
        ("train", latents.cpu().numpy()),
        ("edges", edges.cpu().numpy()),
        ("val", val_latents),
        ("val_edges", val_edges),
    ):
        save_array(job.folder / f"{name}.npy", array)
    write_json(job.folder / "slots.json", {"slots": [[slot.style, slot.view] for slot in slots]})
    share = float(unpack_edges(edges[0, :64])[:, 0].mean())
    log(slots=len(slots), pictures=count, deviation=deviation, edge_share=share)


def load_latents(job: Job, *names: str) -> tuple[list[Slot], dict[str, Tensor]]:
    """The slots and the named arrays, on the device."""
    folder = job.work / "latents"
    slots = [Slot(*pair) for pair in read_json(folder / "slots.json")["slots"]]
    arrays: dict[str, Any] = {name: torch.from_numpy(np.load(folder / f"{name}.npy")).to(job.device) for name in names}
    return slots, arrays
