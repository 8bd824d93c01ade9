"""`python -m miniature heads`: train the finder of cats' and dogs' heads (limner.embeddings.head_network).

EfficientNet-Lite0 stays as it is, so its maps of a few views of every picture are computed once; then the small
network is trained on them, which takes minutes on a processor. One picture in ten is held out to choose by.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limner.embeddings.efficientnet import efficientnet_weights, load_efficientnet, normalised
from limner.embeddings.head_network import KINDS, STRIDE_PX, TAPS, HeadNetwork, box_sides, feature_maps
from limner.measuring.styles import SIDE_PX, STYLES
from miniature.files import Log, written_whole
from miniature.randomness import numpy_generator, torch_generator

CANVASES = ((288, 224), (224, 288), (256, 256))  # width, height in px
HELD_OUT_EVERY = 10
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 2e-3, 0.05
AVERAGE_RATE = 0.02
MIDDLE_SHARE = 0.3  # of a head's half sides: places that near its middle learn its box
BOX_WEIGHT = 2.0
LEAST_BACKGROUND_PX = 70
NO_HEAD = -1  # the kind of a view without a head
BACKGROUND_EVERY = 2  # pictures


@dataclass(frozen=True)
class Sample:
    """A picture of the training data: its file, kind and head box in px."""

    path: Path
    kind: int
    box: tuple[float, float, float, float]
    held_out: bool


@dataclass
class Views:
    """N views of one canvas: maps (N, C, h, w) in half precision, kinds (N,), boxes (N, 4) in px of the canvas."""

    maps: list[Tensor]
    kinds: Tensor
    boxes: Tensor


def read_samples(data: Path) -> list[Sample]:
    """The pictures that DATA/focal_train.csv lists."""
    with (data / "focal_train.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    return [
        Sample(
            data / "focal_train" / row["file"],
            KINDS.index(row["species"]),
            (float(row["head_x0"]), float(row["head_y0"]), float(row["head_x1"]), float(row["head_y1"])),
            index % HELD_OUT_EVERY == 0,
        )
        for index, row in enumerate(rows)
    ]


def whole_view(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The whole picture on the canvas nearest in shape, and its head box."""
    with Image.open(sample.path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    height, width = pixels.shape[:2]
    return _placed(pixels, np.array([0.0, 0.0, width, height]), np.array(sample.box))


def random_view(sample: Sample, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A part of the picture, or more than it, that holds the head; mirrored, coloured or styled at random."""
    generator = numpy_generator(seed, f"view of {sample.path.name}", index)
    with Image.open(sample.path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    box = np.array(sample.box)
    head = max(box[2] - box[0], box[3] - box[1])
    side = head / generator.uniform(0.18, 0.85)
    shape = np.exp(generator.uniform(-0.3, 0.3))
    size = np.maximum(np.array([side * shape, side / shape]), (box[2:] - box[:2]) * 1.02)
    corner = generator.uniform(box[2:] - size, box[:2])
    window = np.concatenate([corner, corner + size])
    limit = np.array([pixels.shape[1], pixels.shape[0]] * 2) * [-0.15, -0.15, 1.15, 1.15]
    window = np.concatenate([np.maximum(window[:2], limit[:2]), np.minimum(window[2:], limit[2:])])
    view, placed = _placed(pixels, window, box)
    if generator.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
        placed = placed[[2, 1, 0, 3]] * [-1, 1, -1, 1] + [view.shape[1], 0, view.shape[1], 0]
    return _coloured(view, generator), placed


def background_view(sample: Sample, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """A part of the picture beside, above or below the head, where none is; None where there is no room for one."""
    generator = numpy_generator(seed, f"background of {sample.path.name}")
    with Image.open(sample.path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = sample.box
    parts = np.array([(0, 0, x0, height), (x1, 0, width, height), (0, 0, width, y0), (0, y1, width, height)])
    sizes = parts[:, 2:] - parts[:, :2]
    parts = parts[(sizes.min(1) >= LEAST_BACKGROUND_PX) & (sizes.max(1) <= 2.5 * sizes.min(1))]
    if len(parts) == 0:
        return None
    part = parts[generator.integers(len(parts))]
    size = (part[2:] - part[:2]) * generator.uniform(0.7, 1.0)
    corner = generator.uniform(part[:2], part[2:] - size)
    view, _ = _placed(pixels, np.concatenate([corner, corner + size]), np.zeros(4))
    return _coloured(view, generator), np.zeros(4)


def _placed(pixels: np.ndarray, window: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The window (x0, y0, x1, y1) of the picture on the canvas nearest in shape, and where the box lies there."""
    size = window[2:] - window[:2]
    canvas = min(CANVASES, key=lambda canvas: abs(np.log(canvas[0] / canvas[1] * size[1] / size[0])))
    scale = np.array(canvas) / size
    shrunk = scale.max() < 1
    if shrunk:  # an area mean first, as the finder's own resizing has it
        pixels = cv2.blur(pixels, tuple(max(1, round(1 / float(one))) for one in scale))
    matrix = np.array([[scale[0], 0, -window[0] * scale[0]], [0, scale[1], -window[1] * scale[1]]])
    view = cv2.warpAffine(pixels, matrix, canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return view, (box - np.tile(window[:2], 2)) * np.tile(scale, 2)


def _coloured(view: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    choice = generator.random()
    if choice < 0.3:
        _, style = STYLES[sorted(STYLES)[generator.integers(len(STYLES))]]
        height, width = view.shape[:2]
        return cv2.resize(style(cv2.resize(view, (SIDE_PX, SIDE_PX))), (width, height))
    values = view.astype(np.float32) / 255
    if choice < 0.4:
        values = np.repeat(values.mean(2, keepdims=True), 3, 2)
    gain = generator.uniform(0.6, 1.4) * generator.uniform(0.9, 1.1, 3).astype(np.float32)
    return (np.clip(values * gain + generator.uniform(-0.08, 0.08), 0, 1) * 255).astype(np.uint8)


@torch.inference_mode()
def make_views(samples: list[Sample], options: argparse.Namespace, held_out: bool, log: Log) -> list[Views]:
    """The maps of every view: the whole picture, and for training `views` random ones."""
    backbone = load_efficientnet(efficientnet_weights()).to(options.device)
    made: dict[tuple[int, int], list[tuple[list[Tensor], int, np.ndarray]]] = {canvas: [] for canvas in CANVASES}
    chosen = [sample for sample in samples if sample.held_out == held_out]
    for index in range(1 if held_out else 1 + options.views):
        for start in range(0, len(chosen), 16):
            part = chosen[start : start + 16]
            views = [random_view(sample, options.seed, index) if index else whole_view(sample) for sample in part]
            for canvas, into in made.items():
                inside = [n for n, (view, _) in enumerate(views) if view.shape[1::-1] == canvas]
                if inside:
                    pixel_values = normalised(np.stack([views[n][0] for n in inside])).to(options.device)
                    maps = [one.half().cpu().contiguous() for one in feature_maps(backbone, pixel_values)]
                    into += [([m[row] for m in maps], part[n].kind, views[n][1]) for row, n in enumerate(inside)]
        log(views=index + 1, held_out=held_out)
    return [_stacked(into) for into in made.values() if into]


@torch.inference_mode()
def background_views(samples: list[Sample], options: argparse.Namespace) -> list[Views]:
    """The maps of parts of training pictures without a head, of every second picture that has room for one."""
    backbone = load_efficientnet(efficientnet_weights()).to(options.device)
    made: dict[tuple[int, int], list[tuple[list[Tensor], int, np.ndarray]]] = {canvas: [] for canvas in CANVASES}
    for sample in [sample for sample in samples if not sample.held_out][::BACKGROUND_EVERY]:
        found = background_view(sample, options.seed)
        if found is not None:
            maps = feature_maps(backbone, normalised(found[0][None]).to(options.device))
            halves = [one[0].half().cpu().contiguous() for one in maps]
            made[(found[0].shape[1], found[0].shape[0])].append((halves, NO_HEAD, found[1]))
    return [_stacked(into) for into in made.values() if into]


def _joined(first: list[Views], second: list[Views]) -> list[Views]:
    """Views of both, canvas by canvas."""
    joined = []
    for one in first:
        same = [other for other in second if other.maps[0].shape[1:] == one.maps[0].shape[1:]]
        maps = [torch.cat([views.maps[tap] for views in (one, *same)]) for tap in range(len(TAPS))]
        kinds, boxes = (torch.cat([getattr(v, name) for v in (one, *same)]) for name in ("kinds", "boxes"))
        joined.append(Views(maps, kinds, boxes))
    return joined


def _stacked(made: list[tuple[list[Tensor], int, np.ndarray]]) -> Views:
    maps = [torch.stack([maps[tap] for maps, _, _ in made]) for tap in range(len(TAPS))]
    kinds = torch.tensor([kind for _, kind, _ in made])
    return Views(maps, kinds, torch.from_numpy(np.stack([box for _, _, box in made])).float())


def kept_views(samples: list[Sample], options: argparse.Namespace, held_out: bool, log: Log) -> list[Views]:
    """The same, from WORK where an earlier run with the same options left them."""
    name = f"views-{'held-out' if held_out else options.views}-{options.seed}.pt"
    path = options.work / name
    if not path.exists():
        made = make_views(samples, options, held_out, log)
        with written_whole(path) as temporary:
            torch.save([(one.maps, one.kinds, one.boxes) for one in made], temporary)
    return [Views(*one) for one in torch.load(path, weights_only=True, mmap=True)]


def targets(kinds: Tensor, boxes: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Wanted scores (B, 2, h, w), a Gaussian about each head's middle, and where boxes are learnt (B, h, w)."""
    x = (torch.arange(grid[1]) + 0.5) * STRIDE_PX
    y = (torch.arange(grid[0]) + 0.5) * STRIDE_PX
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    spread = (0.3 * half).clamp(min=0.4 * STRIDE_PX)
    away_x = (x[None, :] - middle[:, :1]) / spread[:, :1]  # (B, w)
    away_y = (y[None, :] - middle[:, 1:]) / spread[:, 1:]  # (B, h)
    near = torch.exp(-(away_x[:, None, :] ** 2 + away_y[:, :, None] ** 2) / 2)  # (B, h, w)
    near = near / near.amax((1, 2), keepdim=True).clamp(min=1e-6)  # the nearest place is fully a head
    wanted = torch.zeros(len(boxes), len(KINDS), *grid)
    shown = kinds != NO_HEAD
    wanted[torch.arange(len(boxes))[shown], kinds[shown]] = near[shown]
    return wanted, (near > 0.35) & shown[:, None, None]


def loss_of(scores: Tensor, sides: Tensor, kinds: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The scores' quality focal loss (arXiv 2006.04388, equation 3) and the boxes' GIoU loss (arXiv 1902.09630)."""
    wanted, inside = (one.to(scores.device) for one in targets(kinds, boxes, scores.shape[2:]))  # type: ignore[arg-type]
    cross = nn.functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    score_loss = ((scores.sigmoid() - wanted).abs() ** 2 * cross).sum() / len(boxes)
    found = box_sides(sides).permute(0, 2, 3, 1)[inside]  # (N, 4)
    true = boxes.to(scores.device)[:, None, None, :].expand(-1, *scores.shape[2:], 4)[inside]
    return score_loss, (1 - _giou(found, true)).mean()


def _giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised intersection over union of boxes (N, 4), pair by pair."""
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    size = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0)
    both = size.prod(1)
    union = areas[0] + areas[1] - both
    hull = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(1)
    return both / union - (hull - union) / hull


def batches(views: list[Views], generator: torch.Generator, size: int) -> Iterator[tuple[Views, list[int]]]:
    """Every view once, in random batches of one canvas."""
    found = []
    for one in views:
        order = torch.randperm(len(one.kinds), generator=generator).tolist()
        found += [(one, order[start : start + size]) for start in range(0, len(order), size)]
    for place in torch.randperm(len(found), generator=generator).tolist():
        yield found[place]


def _tensors(views: Views, chosen: list[int], device: str) -> tuple[list[Tensor], Tensor, Tensor]:
    maps = [one[chosen].float().to(device, memory_format=torch.channels_last) for one in views.maps]
    return maps, views.kinds[chosen], views.boxes[chosen]


@torch.inference_mode()
def validate(network: HeadNetwork, views: list[Views], device: str) -> dict[str, float]:
    """Shares of held-out heads: found box with at least half overlap, whole head inside it widened by a quarter, right
    kind; and the mean overlap."""
    overlaps, right = [], 0
    for one in views:
        for n in range(len(one.kinds)):
            maps, _, box = _tensors(one, [n], device)
            scores, sides = network(maps)
            place = int(scores.amax(1).flatten().argmax())
            found = box_sides(sides)[0].flatten(1)[:, place][None].cpu()
            low, high = torch.maximum(found[:, :2], box[:, :2]), torch.minimum(found[:, 2:], box[:, 2:])
            both = (high - low).clamp(min=0).prod(1)
            union = (found[:, 2:] - found[:, :2]).prod(1) + (box[:, 2:] - box[:, :2]).prod(1) - both
            overlaps.append(float(both / union))
            right += int(scores[0].flatten(1)[:, place].argmax()) == int(one.kinds[n])
    values = np.array(overlaps)
    return {"overlap": float(values.mean()), "found": float((values > 0.5).mean()), "kind": right / len(values)}


def train(training: list[Views], held_out: list[Views], options: argparse.Namespace, log: Log) -> HeadNetwork:
    """Train by AdamW with a cosine rate; the averaged weights are the result."""
    torch.manual_seed(options.seed)
    network, averaged = HeadNetwork().to(options.device), HeadNetwork().to(options.device).eval()
    if options.start:
        network.load_state_dict({name: value.float() for name, value in load_file(str(options.start)).items()})
    averaged.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = options.epochs * sum(-(-len(one.kinds) // BATCH) for one in training)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for epoch in range(options.epochs):
        sums, steps_of_epoch = np.zeros(2), steps / options.epochs
        for one, chosen in batches(training, torch_generator(options.seed, "heads", epoch), BATCH):
            maps, kinds, boxes = _tensors(one, chosen, options.device)
            score_loss, box_loss = loss_of(*network(maps), kinds, boxes)
            optimizer.zero_grad()
            (score_loss + BOX_WEIGHT * box_loss).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            rate.step()
            with torch.no_grad():
                for average, value in zip(averaged.parameters(), network.parameters(), strict=True):
                    average.lerp_(value, AVERAGE_RATE)
            sums += (float(score_loss.detach()), float(box_loss.detach()))
        save(averaged, options.out)
        losses = {"score_loss": sums[0] / steps_of_epoch, "box_loss": sums[1] / steps_of_epoch}
        log(epoch=epoch, **losses, **validate(averaged, held_out, options.device))
    return averaged


def save(network: HeadNetwork, path: Path) -> None:
    """Half-precision weights, written whole."""
    weights = {name: value.half().cpu().contiguous() for name, value in network.state_dict().items()}
    with written_whole(path) as temporary:
        save_file(weights, str(temporary))


def main(arguments: list[str]) -> None:
    """Compute the views' maps, train, save."""
    parser = argparse.ArgumentParser(prog="python -m miniature heads", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with focal_train/ and focal_train.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for the log")
    parser.add_argument("--out", type=Path, required=True, help="the weights file to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--views", type=int, default=2, help="random views of each picture beside the whole one")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--start", type=Path, help="begin from the weights of this file")
    options = parser.parse_args(arguments)
    began, log = time.monotonic(), Log(options.work / "heads.jsonl", "heads")
    samples = read_samples(options.data)
    held_out = kept_views(samples, options, True, log)
    background = background_views(samples, options)
    log(background=sum(len(one.kinds) for one in background))
    network = train(_joined(kept_views(samples, options, False, log), background), held_out, options, log)
    size = sum(value.numel() * 2 for value in network.state_dict().values())
    log(done=True, bytes=size, minutes=(time.monotonic() - began) / 60)
