"""A set of photos judged as a photographer would: how many, how varied, and what to add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

FEW, MANY = 5, 30
CLOSE, FAR = 0.45, 0.2  # of the crop's short side that the head fills
DARK, BRIGHT = 35.0, 65.0  # CIELAB L* of 100
WARM, COOL = 8.0, -2.0  # CIELAB b*; indoor light makes most photos a little warm
ONE_SIDED = 0.8
SMALL_PX, HEAD_PX, SHARE_OF_BORDER = 64, 16, 0.15
SAME_GROUND, SAME_POSE = 0.72, 0.55
FRAMINGS = ("close", "middle", "far")


@dataclass(frozen=True)
class Look:
    """The few values that are kept of one crop."""

    framing: str  # one of FRAMINGS, or "" without a head
    light: str
    ground: np.ndarray  # (64,) colours along the border, unit norm
    pose: np.ndarray | None  # (256,) the head as a small grey picture, unit norm


def look_at(crop: np.ndarray, head: tuple[float, float, float, float] | None) -> Look:
    """Measure a crop (H, W, 3) uint8; `head` is the box x0, y0, x1, y1 in it, in px."""
    height, width = crop.shape[:2]
    small = np.asarray(Image.fromarray(crop).resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX))
    if head is None:
        return Look("", _light(small), _ground(small), None)
    share = max(head[2] - head[0], head[3] - head[1]) / min(width, height)
    framing = FRAMINGS[0] if share >= CLOSE else FRAMINGS[2] if share < FAR else FRAMINGS[1]
    x0, y0, x1, y1 = (min(max(edge, 0.0), most) for edge, most in zip(head, (width, height) * 2, strict=True))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return Look(framing, _light(small), _ground(small), None)
    pose = Image.fromarray(crop).convert("L").resize((HEAD_PX, HEAD_PX), Image.Resampling.BOX, box=(x0, y0, x1, y1))
    return Look(framing, _light(small), _ground(small), _unit(np.asarray(pose, np.float64).ravel(), centred=True))


def judge(looks: Sequence[Look]) -> list[str]:
    """What the set has, and what to add, one sentence each."""
    return [_in_figures(looks), *_advice(looks)]


def _in_figures(looks: Sequence[Look]) -> str:
    framings = Counter(look.framing for look in looks if look.framing)
    framing = (
        ", ".join(f"{framings[name]} {name}" for name in FRAMINGS if framings[name]) or "unknown, as no head is found"
    )
    lights = Counter(look.light for look in looks)
    light = ", ".join(f"{count} {name}" for name, count in sorted(lights.items(), key=lambda pair: (-pair[1], pair[0])))
    poses = _poses(looks)
    pose = f"{_kinds(poses, SAME_POSE)} kinds of pose" if len(poses) > 1 else "poses unknown"
    grounds = _kinds([look.ground for look in looks], SAME_GROUND)
    return f"{len(looks)} photos; framing: {framing}; {pose}; light: {light}; {grounds} kinds of background"


def _advice(looks: Sequence[Look]) -> list[str]:
    count, advice = len(looks), []
    if count < FEW:
        advice.append(f"{count} are few: add photos; 5 to 20 that differ are usual")
    if count > MANY:
        advice.append(f"{count} are more than needed: the best 20 that differ teach as much")
    if count < 3:
        return advice
    framed = [look.framing for look in looks if look.framing]
    if len(framed) > 2:
        lacking = [name for name in FRAMINGS if name not in framed]
        if len(lacking) == 2:
            advice.append(
                f"every head is {framed[0]}: add photos taken from {'farther' if 'far' in lacking else 'nearer'}"
            )
    light, most = Counter(look.light for look in looks).most_common(1)[0]
    if most >= ONE_SIDED * count:
        advice.append(f"{most} of {count} have the same light ({light}): add photos in other light")
    if _kinds([look.ground for look in looks], SAME_GROUND) * 3 < count:
        advice.append("few backgrounds: add photos taken elsewhere, or the background is learnt with the subject")
    poses = _poses(looks)
    if len(poses) > 3 and _kinds(poses, SAME_POSE) * 3 < len(poses):
        advice.append("few poses: add photos from other sides and with other expressions")
    return advice


def _poses(looks: Sequence[Look]) -> list[np.ndarray]:
    return [look.pose for look in looks if look.pose is not None]


def _kinds(vectors: Sequence[np.ndarray], threshold: float) -> int:
    """How many groups there are when each vector joins the first group whose first member it resembles."""
    leaders: list[np.ndarray] = []
    for vector in vectors:
        if all(float(vector @ leader) < threshold for leader in leaders):
            leaders.append(vector)
    return len(leaders)


def _light(small: np.ndarray) -> str:
    import cv2

    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3).mean(0)
    brightness = "dark" if lab[0] < DARK else "bright" if lab[0] > BRIGHT else "medium"
    return f"{brightness} {'warm' if lab[2] > WARM else 'cool' if lab[2] < COOL else 'neutral'}"


def _ground(small: np.ndarray) -> np.ndarray:
    """Square roots of shares of 4x4x4 colours along the upper border and both sides: products are overlaps."""
    edge = round(SHARE_OF_BORDER * len(small))
    border = np.concatenate([part.reshape(-1, 3) for part in (small[:edge], small[edge:, :edge], small[edge:, -edge:])])
    colours = (border >> 6).astype(np.int64) @ (16, 4, 1)
    return np.sqrt(np.bincount(colours, minlength=64) / len(colours))


def _unit(values: np.ndarray, *, centred: bool) -> np.ndarray:
    values = values - values.mean() if centred else values
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 0 else values
