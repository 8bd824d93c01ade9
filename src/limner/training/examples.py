"""What one step is trained on: latents, noise, timesteps and weights, each a function of (training seed, position).

Examples are counted: micro-batch n of size B holds the positions n·B … n·B + B - 1. Everything random about an
example comes from (training seed, purpose, position), with purposes of their own for instance and class examples.
So variants with the same seed see the same data, noise and timesteps, whatever their rank, method and batch size,
and whether or not class images stand beside the photos; a resume needs nothing but the step's number.

Variants trained together may have seeds of their own: every seed's examples are drawn, in one computation.

Where photos lie in buckets, each bucket has a draw of its own. Everything but which pictures are shown comes from the
micro-batch's number all the same, so it is what it would be without buckets; pictures come by the bucket's own count.

Shapes: S seeds, B examples of each of G groups (instance, class), N pictures, latents (S·G·B, 4, H/8, W/8).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.artifacts import Size, hash_file, stage_key, write_whole
from limner.base import Base, placed
from limner.blocks import fast
from limner.diffusion.latents import encode_moments, pixels_from_image, sample_moments
from limner.diffusion.objective import example_weights, offset_noise
from limner.diffusion.randomness import integers_of, normal_of, uniform_of
from limner.diffusion.streams import Streams, orders
from limner.errors import InputError

CACHE_VERSION = 1
INSTANCE, CLASS = 0, 1  # rows of the prompts
READERS, READ_AHEAD = 4, 3  # threads that read pictures; batches under way


@dataclass(frozen=True)
class EncodedPictures:
    """Posterior moments of one group's pictures, and of their mirror images where half of them are to be flipped."""

    moments: Tensor  # (N, 8, H/8, W/8), fp32
    mirrored: Tensor | None = None  # the same shape
    prompt_rows: Tensor | None = None  # (N,): the prompt of each, where they have prompts of their own

    def __len__(self) -> int:
        return self.moments.shape[0]

    def repeated(self, counts: Sequence[int]) -> EncodedPictures:
        """Each picture as often in a row as `counts` (N) says."""
        if all(count == 1 for count in counts):
            return self
        times = torch.tensor(counts, device=self.moments.device)
        parts = (self.moments, self.mirrored, self.prompt_rows)
        return EncodedPictures(*(None if part is None else part.repeat_interleave(times, 0) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch:
    """Examples of one micro-batch, seed by seed, instance and class; nothing depends on a seed's examples' order."""

    latents: Tensor  # (S·G·B, 4, H/8, W/8)
    noise: Tensor  # (S·G·B, 4, H/8, W/8)
    timesteps: Tensor  # (S·G·B,)
    prompt_rows: Tensor  # (G·B,), INSTANCE or CLASS, the same for every seed; (S, G·B) where photos have their own
    loss_weights: Tensor  # (G·B,), 1/B_i or λ/B_c


@dataclass(frozen=True)
class Drawing:
    """How micro-batches are drawn."""

    seeds: tuple[int, ...]  # different ones
    batch_size: int  # instance examples; as many class examples are added where there are class images
    timestep_count: int
    scaling_factor: float  # the VAE's
    prior_loss_weight: float = 1.0
    noise_offset: float = 0.0
    class_row: int = CLASS  # the class prompt's, which comes after those of the photos where they have their own


def encode_pictures(
    base: Base,
    files: Sequence[Path],
    size: Size,
    *,
    flip: bool,
    base_hash: str,
    cache: Path,
    at_once: int = 4,
    advance: Callable[[int], None] = lambda pictures: None,
) -> EncodedPictures:
    """Moments of pictures of one `size`, read from the folder `cache` when they were encoded before.

    The VAE is on the base's device only while it encodes, `at_once` pictures at a time, of which `advance` hears; a
    mirrored picture counts as another. Raises InputError for a picture of another size.
    """
    for file in files:  # of pictures in the cache too: their key says nothing of their size
        _require_size(file, size)
    inputs = {"base": base_hash, "pictures": [hash_file(file) for file in files]}
    key = stage_key("moments", CACHE_VERSION, {"dtype": str(next(base.vae.parameters()).dtype)}, inputs)

    def moments(path: Path, mirror: bool) -> Tensor:
        return _cached(path, len(files), lambda: _encoded(base, files, mirror, at_once, advance), advance)

    plain = moments(cache / f"{key}.safetensors", False).to(base.device)
    mirrored = moments(cache / f"{key}-mirrored.safetensors", True).to(base.device) if flip else None
    return EncodedPictures(plain, mirrored)


def _cached(path: Path, count: int, encode: Callable[[], Tensor], advance: Callable[[int], None]) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    try:
        moments = load_file(path)["moments"]
        advance(count)
        return moments
    except (OSError, SafetensorError, KeyError):
        pass  # not encoded yet, or damaged: encode
    moments = encode()
    write_whole(path, save({"moments": moments}))
    return moments


def _encoded(base: Base, files: Sequence[Path], mirror: bool, at_once: int, advance: Callable[[int], None]) -> Tensor:
    """Moments (N, 8, H/8, W/8) of pictures, on the CPU."""
    pieces = []
    with placed(base, "vae"), fast(base.device, base.vae):
        for pixels in _batches(files, at_once):
            pieces.append(encode_moments(base.vae, pixels.flip(3) if mirror else pixels).cpu())  # (B, 8, H/8, W/8)
            advance(len(pixels))
    return torch.cat(pieces).contiguous()


def _batches(files: Sequence[Path], at_once: int) -> Iterator[Tensor]:
    """Pixels (B, 3, H, W) of `at_once` pictures after another; the next are read while one is encoded."""
    pending: deque[list[Future[Tensor]]] = deque()
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(files), at_once):
            pending.append([readers.submit(_pixels, file) for file in files[start : start + at_once]])
            if len(pending) > READ_AHEAD:
                yield torch.stack([picture.result() for picture in pending.popleft()])
        while pending:
            yield torch.stack([picture.result() for picture in pending.popleft()])


def _pixels(file: Path) -> Tensor:
    from PIL import Image

    with Image.open(file) as image:
        return pixels_from_image(np.array(image.convert("RGB")))


def _require_size(file: Path, size: Size) -> None:
    from PIL import Image

    with Image.open(file) as image:
        if image.size != size:
            raise InputError(
                f"{file} is {image.width}x{image.height} px and the study trains at {size[0]}x{size[1]}; "
                "prepare the photos and class images at one size"
            )


class BatchDraw:
    """Draws micro-batches by number: the same at every call, on every machine.

    The number may be an int64 scalar tensor on the pictures' device; no shape and no branch depends on its value, so
    the draw can be captured in a CUDA graph. `prompt_rows` and `loss_weights` are shared by all batches.
    """

    def __init__(self, instance: EncodedPictures, of_class: EncodedPictures | None, drawing: Drawing):
        groups = {"instance": instance} | ({"class": of_class} if of_class is not None else {})
        seeds, count, device = drawing.seeds, drawing.batch_size, instance.moments.device
        self.sources, self.drawing = tuple(groups.values()) * len(seeds), drawing  # (S·G)

        def streams(*kinds: str, each: int = count) -> Streams:
            sources = [(seed, name) for seed in seeds for name in groups for _ in range(each)]
            return Streams([(seed, f"{name} {kind}") for kind in kinds for seed, name in sources], device)

        sizes = [len(pictures) for pictures in self.sources]
        self.epochs = max((count + size - 2) // size + 1 for size in sizes)  # the most that a micro-batch can touch
        self.sizes = torch.tensor(sizes, device=device)[:, None]  # (S·G, 1)
        self.largest = max(sizes)
        self.order_streams = streams("data order", each=self.epochs)  # (S·G·epochs) streams
        self.value_streams = streams("flip", "timesteps", "noise offset")  # (3·S·G·B) streams
        self.noise_streams = streams("posterior", "noise")  # (2·S·G·B) streams
        self.prompt_rows = torch.tensor([INSTANCE, CLASS][: len(groups)], device=device).repeat_interleave(count)
        self.loss_weights = example_weights(self.prompt_rows == CLASS, drawing.prior_loss_weight)
        self.photos_have_prompts = instance.prompt_rows is not None
        if instance.prompt_rows is not None:
            of_class_prompt = [torch.full((len(part),), drawing.class_row, device=device) for part in self.sources]
            self.rows = [
                rows if part.prompt_rows is None else part.prompt_rows
                for part, rows in zip(self.sources, of_class_prompt, strict=True)
            ]

    def __call__(self, number: int | Tensor, turn: Tensor | None = None) -> Batch:
        """Micro-batch `number`; all of its work is done on the pictures' device.

        `turn` counts the micro-batches of this bucket alone, where there are others.
        """
        device, count, sources = self.sizes.device, self.drawing.batch_size, len(self.sources)
        if not isinstance(number, Tensor):
            number = torch.full((), number, dtype=torch.int64, device=device)
        offsets = torch.arange(count, device=device)
        positions = number * count + offsets  # (B,)
        shape = self.sources[0].moments.shape[1:]
        shape = (shape[0] // 2, *shape[1:])  # (4, H/8, W/8)

        values = self.value_streams.words(positions.repeat(3 * sources), shape[0] + shape[0] % 2)  # (3·S·G·B, 4)
        flip_words, timestep_words, offset_words = values.chunk(3)  # (S·G·B, 4) each
        flips = (uniform_of(flip_words[:, 0]) < 0.5).view(sources, count)
        chosen = self.pictures(positions if turn is None else turn * count + offsets)  # (S·G, B)
        moments = self._moments(chosen, flips)  # (S·G·B, 8, H/8, W/8)

        words = self.noise_streams.words(positions.repeat(2 * sources), 2 * math.ceil(math.prod(shape) / 2))
        normals = normal_of(words)[:, : math.prod(shape)].unflatten(1, shape)  # (2·S·G·B, 4, H/8, W/8)
        posterior_noise, noise = normals.chunk(2)
        latents = sample_moments(moments, posterior_noise, self.drawing.scaling_factor)
        if self.drawing.noise_offset:
            noise = offset_noise(noise, normal_of(offset_words)[:, : shape[0]], self.drawing.noise_offset)
        timesteps = integers_of(timestep_words[:, 0], self.drawing.timestep_count)
        return Batch(latents, noise, timesteps, self._prompt_rows(chosen), self.loss_weights)

    def pictures(self, positions: Tensor) -> Tensor:
        """Which picture (S·G, B) stands at each position (B,): epochs of N, each in an order of its own, none twice."""
        epochs = positions // self.sizes  # (S·G, B)
        touched = epochs[:, :1] + torch.arange(self.epochs, device=epochs.device)  # (S·G, epochs)
        words = self.order_streams.words(touched.flatten(), 2 * self.largest)
        order = orders(words, self.sizes.expand_as(touched).flatten())  # (S·G·epochs, N)
        offset = (epochs - epochs[:, :1]) * self.largest + positions % self.sizes  # (S·G, B), in the source's epochs
        return order.view(len(self.sources), -1).gather(1, offset)

    def _prompt_rows(self, chosen: Tensor) -> Tensor:
        """Which prompts go with the `chosen` pictures (S·G, B)."""
        if not self.photos_have_prompts:
            return self.prompt_rows
        rows = [rows.index_select(0, index) for rows, index in zip(self.rows, chosen, strict=True)]
        return torch.stack(rows).view(len(self.drawing.seeds), -1)  # (S, G·B)

    def _moments(self, chosen: Tensor, flips: Tensor) -> Tensor:
        """Moments (S·G·B, 8, H/8, W/8) of the `chosen` pictures (S·G, B), mirrored where `flips` (S·G, B) says so."""
        drawn = []
        for pictures, index, flip in zip(self.sources, chosen, flips, strict=True):
            moments = pictures.moments.index_select(0, index)  # (B, 8, H/8, W/8)
            if pictures.mirrored is not None:
                moments = torch.where(flip[:, None, None, None], pictures.mirrored.index_select(0, index), moments)
            drawn.append(moments)
        return torch.cat(drawn)
