"""The packaged VAE's last convolution, solved anew so that flat colours come out as they are and photos as they were.

Of all changes that take the tint off flat colours, the one that changes training photos least: a linear least-squares
problem with one solution, since the decoder is linear behind its last non-linearity.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from miniature.files import Log
from miniature.package import save_whole
from miniature.pictures import load_picture, read_rows
from miniature.randomness import numpy_generator
from miniature.settings import PICTURE_PX, Job
from miniature.unpack import STEM
from miniature.views import to_pixel_values

PHOTOS = 96
COLOURS = 192
"""Half of them grey, as among the views that the VAE was trained on."""
PHOTO_WEIGHT = 0.3
"""What a squared change of a photo costs beside a squared error of a flat colour, both means over pixels."""
RIDGE = 1e-4
"""Share of each feature's power in photos that counts as its own, so that weights stay small."""
MEAN_GREY, GREY_SPREAD = 127.0, 12.0
BATCH = 2


def flat_pictures(seed: int, count: int) -> np.ndarray:
    """Pictures of one colour each (N, 256, 256, 3) uint8: greys, most of them middle ones, then any colours."""
    generator = numpy_generator(seed, "flat colours")
    greys = generator.normal(MEAN_GREY, GREY_SPREAD, (count // 2, 1)).repeat(3, axis=1)
    colours = generator.uniform(0, 255, (count - count // 2, 3))
    levels = np.concatenate([greys, colours]).clip(0, 255).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None], (count, PICTURE_PX, PICTURE_PX, 3))


def train_photos(data: Path, count: int) -> np.ndarray:
    """So many training photos (N, 256, 256, 3), evenly spaced."""
    rows = [row for row in read_rows(data, None) if row["split"] == "train"]
    chosen = np.linspace(0, len(rows) - 1, count).astype(int)
    return np.stack([load_picture(data / "pets256" / rows[index]["file"]) for index in chosen])


@torch.no_grad()
def last_features(vae: Any, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder's last convolution reads at each pixel, (B * H * W, 9 * C + 1), and gives, (B * H * W, 3)."""
    seen: list[Tensor] = []
    handle = vae.decoder.conv_out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        result = vae.decode(vae.encode(pixel_values).latent_dist.mode()).sample
    finally:
        handle.remove()
    patches = F.unfold(seen[0], 3, padding=1)  # (B, 9 * C, H * W)
    patches = torch.cat([patches, torch.ones_like(patches[:, :1])], 1)  # the bias's
    return patches.transpose(1, 2).flatten(0, 1), result.permute(0, 2, 3, 1).flatten(0, 2)


def batches(pictures: np.ndarray, device: str) -> Iterator[Tensor]:
    """Pixel values (B, 3, H, W)."""
    for start in range(0, len(pictures), BATCH):
        yield to_pixel_values(torch.from_numpy(pictures[start : start + BATCH].copy()).to(device))


def normal_equations(vae: Any, pictures: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    """Means over pixels of x x^T (D, D) and x e^T (D, 3); x what the convolution reads, e what its result lacks."""
    gram = moment = torch.zeros((), dtype=torch.float64, device=device)
    for pixel_values in batches(pictures, device):
        features, result = last_features(vae, pixel_values)
        lacking = pixel_values.permute(0, 2, 3, 1).flatten(0, 2) - result
        exact = features.double()  # neighbours are nearly alike: small directions would be lost
        gram = gram + exact.T @ exact
        moment = moment + exact.T @ lacking.double()
    pixels = len(pictures) * PICTURE_PX**2
    return gram / pixels, moment / pixels


def least_change(flat_gram: Tensor, flat_moment: Tensor, photo_gram: Tensor, photo_weight: float) -> Tensor:
    """The change C (D, 3) for which the flats' mean |e - C^T x|^2 + weight * the photos' mean |C^T x|^2 is least."""
    dear = photo_gram + RIDGE * photo_gram.diagonal().diag()
    return torch.linalg.solve(flat_gram + photo_weight * dear, flat_moment)


def change_last_layer(weights: dict[str, Tensor], change: Tensor) -> dict[str, Tensor]:
    """A VAE's weights with C (9 * C + 1, 3) added to the decoder's last convolution and its bias."""
    weight, bias = weights["decoder.conv_out.weight"], weights["decoder.conv_out.bias"]
    added = change.T.to("cpu", torch.float64)  # (3, 9 * C + 1), as `unfold` lays a patch out
    return weights | {
        "decoder.conv_out.weight": (weight.double() + added[:, :-1].reshape(weight.shape)).to(weight.dtype),
        "decoder.conv_out.bias": (bias.double() + added[:, -1]).to(bias.dtype),
    }


def flat_deviation(vae: Any, pictures: np.ndarray, device: str) -> float:
    """Mean absolute deviation of reconstructed pictures from themselves, in 8-bit levels."""
    errors = [
        (last_features(vae, values)[1] - values.permute(0, 2, 3, 1).flatten(0, 2)).abs().mean()
        for values in batches(pictures, device)
    ]
    return 127.5 * float(torch.stack(errors).mean())


def run(job: Job) -> None:
    """Mend the VAE in the packaged folder `--out`; its encoder, and so every latent, stays what it is."""
    torch.backends.cudnn.allow_tf32 = False
    log = Log(job.folder / "log.jsonl", "flats")
    path = job.out / "vae" / f"{STEM}.safetensors"
    vae: Any = AutoencoderKL.from_pretrained(str(job.out / "vae"), torch_dtype=torch.float32)
    vae = vae.to(job.device).eval()
    flats = flat_pictures(job.seed, COLOURS)
    log(device=job.device, photos=PHOTOS, colours=COLOURS, photo_weight=PHOTO_WEIGHT, seed=job.seed)
    flat_gram, flat_moment = normal_equations(vae, flats, job.device)
    photo_gram, _ = normal_equations(vae, train_photos(job.data, PHOTOS), job.device)
    before = flat_deviation(vae, flats, job.device)
    change = least_change(flat_gram, flat_moment, photo_gram, PHOTO_WEIGHT)
    moved = 127.5 * float(((change.T @ photo_gram) * change.T).sum().div(3).sqrt())
    weights = change_last_layer(load_file(str(path)), change)
    vae.load_state_dict(weights)
    log(flats_before=before, flats_after=flat_deviation(vae, flats, job.device), photos_changed_rms=moved)
    save_whole(path, weights)
