"""A little SVG: escaped elements, round ticks, markers, labels that keep out of each other's way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Box = tuple[float, float, float, float]  # left, top, right, bottom
LETTER_WIDTH = 6.4  # of the charts' label size, generous


def element(name: str, *children: str | Markup, **attributes: object) -> Markup:
    """An element; underscores in attribute names become hyphens, text and values are escaped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(
        Markup(name), Markup(written), Markup("").join(escape(child) for child in children)
    )


def path_through(points: Iterable[tuple[float, float]]) -> str:
    """Path data of a line through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers between `low` and `high`, both included in their range."""
    step_for = (high - low) / max(1, count)
    if step_for <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(step_for))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step_for * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True)
class Scale:
    """Maps values to places along an axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value stands."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def padded(values: Sequence[float], share: float = 0.12) -> tuple[float, float]:
    """A range around values with some air; never empty."""
    low, high = min(values), max(values)
    air = (high - low) * share or max(abs(high) * 0.1, 0.05)
    return low - air, high + air


def marker_path(shape: str, x: float, y: float, radius: float) -> str:
    """Path data of a marker of about equal weight for each shape."""
    if shape == "circle":
        r = radius * 0.92
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0Z"
    if shape == "star":
        polar_points = [(radius * (1.25 if i % 2 == 0 else 0.55), -math.pi / 2 + i * math.pi / 5) for i in range(10)]
        return path_through((x + r * math.cos(a), y + r * math.sin(a)) for r, a in polar_points) + "Z"
    corners, turn, size = {
        "diamond": (4, -math.pi / 2, 1.2),
        "triangle": (3, -math.pi / 2, 1.25),
        "pentagon": (5, -math.pi / 2, 1.1),
    }.get(shape, (4, -math.pi / 4, 1.15))
    angles = [turn + i * 2 * math.pi / corners for i in range(corners)]
    return path_through((x + radius * size * math.cos(a), y + radius * size * math.sin(a)) for a in angles) + "Z"


def place_labels(
    points: Sequence[tuple[float, float]], labels: Sequence[str], frame: Box, obstacles: Sequence[Box] = ()
) -> list[tuple[float, float, str]]:
    """For each label x, y and text-anchor: right, left, above or below its point, where it covers least."""
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    positions = []
    for index, ((x, y), label) in enumerate(zip(points, labels, strict=True)):
        width = LETTER_WIDTH * len(label)
        others = [*obstacles, *(box for other, box in enumerate(taken) if other != index)]
        choices = [
            ((x + 11 + dx, y + 4 + dy, anchor), box)
            for dx, dy, anchor, box in (
                (0, 0, "start", (x + 11, y - 7, x + 11 + width, y + 7)),
                (-22, 0, "end", (x - 11 - width, y - 7, x - 11, y + 7)),
                (-11, -14, "middle", (x - width / 2, y - 22, x + width / 2, y - 8)),
                (-11, 15, "middle", (x - width / 2, y + 8, x + width / 2, y + 22)),
                (0, -13, "start", (x + 11, y - 21, x + 11 + width, y - 6)),
                (0, 13, "start", (x + 11, y + 6, x + 11 + width, y + 20)),
                (-22, -13, "end", (x - 11 - width, y - 21, x - 11, y - 6)),
                (-22, 13, "end", (x - 11 - width, y + 6, x - 11, y + 20)),
                (-11, -27, "middle", (x - width / 2, y - 35, x + width / 2, y - 21)),
                (-11, 28, "middle", (x - width / 2, y + 21, x + width / 2, y + 35)),
            )
        ]
        best, box = min(choices, key=lambda choice: _cost(choice[1], others, frame))
        taken.append(box)
        positions.append(best)
    return positions


def _cost(box: Box, others: Iterable[Box], frame: Box) -> float:
    outside = max(0.0, frame[0] - box[0]) + max(0.0, box[2] - frame[2])
    outside += max(0.0, frame[1] - box[1]) + max(0.0, box[3] - frame[3])
    return outside * 40 + sum(_overlap(box, other) for other in others)


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _short(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
