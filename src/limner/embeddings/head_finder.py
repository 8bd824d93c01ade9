"""Heads of people, cats and dogs in many pictures at once, each with a vector by which it can be recognised."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from limner.artifacts import hash_file
from limner.embeddings.efficientnet import efficientnet_weights, load_efficientnet, normalised
from limner.embeddings.embedder import Pixels
from limner.embeddings.face_finder import PERSON, find_faces
from limner.embeddings.head_network import KINDS, HeadNetwork, box_sides, feature_maps
from limner.embeddings.heads import Head
from limner.errors import InputError

FINDER_VERSION = 1
WEIGHTS_FILE = "head_network.safetensors"
ALL_KINDS = (*KINDS, PERSON)
LONG_SIDE_PX, SHORT_SIDE_PX, LONGEST_PX = 288, 160, 640  # of the copy that the network sees
MULTIPLE_PX = 32
BATCH = 16
LEAST_SCORE = 0.25  # of the network's score, an expected overlap; reported as its square root
SAME_HEAD_OVERLAP = 0.35  # intersection over union, or of the smaller by INSIDE
INSIDE = 0.7
VOTERS_OVERLAP = 0.6  # boxes of neighbouring positions with at least this overlap are averaged with the best
MOST_HEADS = 8


@dataclass(frozen=True)
class FoundHead(Head):
    """A head, and its vector (320,) of unit length: EfficientNet-Lite0's last map averaged over its box."""

    vector: np.ndarray


class HeadFinder:
    """Finds heads by the network for cats and dogs and by the face detector for people."""

    def __init__(self, device: torch.device | str = "cpu", weights: Path | None = None) -> None:
        """Load the weights that come with limner, or those of the file `weights`. Raises EmbedderError without them."""
        self._device = torch.device(device)
        self._backbone = load_efficientnet(efficientnet_weights()).to(self._device, memory_format=torch.channels_last)
        self._network = HeadNetwork().eval().requires_grad_(False)
        file = weights or head_weights()
        self._network.load_state_dict({name: value.float() for name, value in load_file(str(file)).items()})
        self._network.to(self._device)

    def find(self, images: Sequence[Pixels], kinds: Sequence[str] | None = None) -> list[list[FoundHead]]:
        """Heads of each picture (H, W, 3) uint8 RGB, best first; `kinds` out of "cat", "dog", "person", or all.

        Scores lie between 0 and 1. The result does not depend on which pictures are in one call. Raises InputError for
        another kind.
        """
        wanted = ALL_KINDS if kinds is None else kinds
        for kind in wanted:
            if kind not in ALL_KINDS:
                raise InputError(f'there is no head finder for "{kind}"; there are {", ".join(ALL_KINDS)}')
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(working_size(image.shape[1], image.shape[0]), []).append(index)
        heads_of: dict[int, list[FoundHead]] = {}
        for size, indices in groups.items():
            for start in range(0, len(indices), BATCH):
                part = indices[start : start + BATCH]
                heads_of.update(zip(part, self._find([images[i] for i in part], size, wanted), strict=True))
        return [heads_of[index] for index in range(len(images))]

    @torch.inference_mode()
    def _find(self, images: list[Pixels], size: tuple[int, int], kinds: Sequence[str]) -> list[list[FoundHead]]:
        """The same for pictures with one working size (width, height)."""
        pixel_values = normalised(np.stack([_resized(image, size) for image in images])).to(self._device)
        maps = feature_maps(self._backbone, pixel_values)
        logits, sides = self._network(maps)
        scores = logits.float().sigmoid().cpu().numpy()  # (B, 2, H/16, W/16)
        boxes = box_sides(sides).cpu().numpy()  # (B, 4, H/16, W/16)
        coarse = maps[-1].float().cpu()  # (B, 320, H/32, W/32)
        return [
            [_with_vector(head, coarse[row], image) for head in _best(image, scores[row], boxes[row], size, kinds)]
            for row, image in enumerate(images)
        ]


def head_weights() -> Path:
    """The network's weights that come with limner."""
    return Path(str(resources.files("limner.embeddings") / "weights" / WEIGHTS_FILE))


@functools.cache
def finder_identity() -> str:
    """Identifies, in keys, everything that affects the result."""
    return f"{FINDER_VERSION}-{hash_file(head_weights())[:12]}"


def working_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in whole 32 px of the copy that the network sees: 288 px long, its proportions nearly kept."""
    scale = max(LONG_SIDE_PX / max(width, height), SHORT_SIDE_PX / min(width, height))
    wide, high = (min(LONGEST_PX, max(1, round(side * scale / MULTIPLE_PX)) * MULTIPLE_PX) for side in (width, height))
    if wide == high:  # squares get as many px as other shapes
        return 256, 256
    return wide, high


def _resized(image: Pixels, size: tuple[int, int]) -> np.ndarray:
    import cv2

    interpolation = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation)


def _best(
    image: Pixels, scores: np.ndarray, boxes: np.ndarray, size: tuple[int, int], kinds: Sequence[str]
) -> list[Head]:
    """Heads of one picture from the network's maps (2, h, w), (4, h, w) and the face detector, best first."""
    heads = find_faces(image) if PERSON in kinds else []
    scale = np.array([image.shape[1] / size[0], image.shape[0] / size[1]] * 2)
    limit = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float64)
    flat = boxes.reshape(4, -1).T.astype(np.float64)  # (N, 4)
    wanted = [KINDS.index(kind) for kind in kinds if kind in KINDS]
    best = scores.reshape(len(KINDS), -1).max(0)  # (N,): a position holds one head, a cat's or a dog's
    kind_of = scores.reshape(len(KINDS), -1).argmax(0)
    for position in np.argsort(-best, kind="stable"):
        if best[position] < LEAST_SCORE:
            break
        if kind_of[position] not in wanted:
            continue
        agreeing = best * (_overlap(flat[position], flat) > VOTERS_OVERLAP)
        box = np.clip((agreeing[:, None] * flat).sum(0) / agreeing.sum() * scale, 0, limit)
        if (box[2:] - box[:2]).min() < 1:
            continue
        heads.append(Head(tuple(map(float, box)), KINDS[kind_of[position]], float(best[position]) ** 0.5))  # type: ignore[arg-type]
    return _without_overlapping(heads)


def _without_overlapping(heads: list[Head]) -> list[Head]:
    """The heads that do not overlap a better one, best first."""
    separate: list[Head] = []
    for head in sorted(heads, key=lambda head: (-head.score, head.box)):
        if all(_overlap_of_heads(head, better) < SAME_HEAD_OVERLAP for better in separate):
            separate.append(head)
    return separate[:MOST_HEADS]


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (N,) of a box (4,) with others (N, 4)."""
    size = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
    both = size.prod(1)
    return both / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - both)


def _overlap_of_heads(head: Head, other: Head) -> float:
    """Overlap of two heads; 1 if one is almost entirely inside the other."""
    first, second = np.array(head.box), np.array(other.box)
    both = np.clip(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0, None).prod()
    smaller = min((box[2:] - box[:2]).prod() for box in (first, second))
    return 1.0 if both > INSIDE * smaller else float(_overlap(first, second[None])[0])


def _with_vector(head: Head, coarse: Tensor, image: Pixels) -> FoundHead:
    """Average the map (320, h, w) over the head's box."""
    high, wide = coarse.shape[1:]
    cells = np.array(head.box) * (np.array([wide / image.shape[1], high / image.shape[0]] * 2))
    x0, y0 = (min(int(value), last - 1) for value, last in zip(cells[:2], (wide, high), strict=True))
    x1, y1 = (max(int(np.ceil(value)), low + 1) for value, low in zip(cells[2:], (x0, y0), strict=True))
    vector = coarse[:, y0:y1, x0:x1].mean((1, 2))
    return FoundHead(head.box, head.kind, head.score, (vector / vector.norm().clamp(min=1e-9)).numpy())
