"""Draws the demo's conditioning pictures: a cat's head, frontal and tilted, as plain shapes with clear edges.

python -m miniature.draw_references src/limner/demo/references
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIDE_PX = 256
OVERSAMPLING = 4
GROUND, FUR, DARK, EYE, PUPIL, NOSE = (
    (205, 214, 219),
    (150, 112, 78),
    (92, 62, 42),
    (178, 190, 84),
    (18, 18, 18),
    (196, 120, 118),
)

Point = tuple[float, float]


def ellipse(centre: Point, radii: Point, turn_degrees: float = 0.0, points: int = 72) -> list[Point]:
    """The outline of an ellipse as a polygon; lengths are shares of the picture's side."""
    turn = math.radians(turn_degrees)
    outline = []
    for index in range(points):
        angle = 2 * math.pi * index / points
        x, y = radii[0] * math.cos(angle), radii[1] * math.sin(angle)
        outline.append(
            (centre[0] + x * math.cos(turn) - y * math.sin(turn), centre[1] + x * math.sin(turn) + y * math.cos(turn))
        )
    return outline


def head_shapes() -> list[tuple[list[Point], tuple[int, int, int]]]:
    """Filled shapes of a cat's head that looks at us, back to front."""
    shapes = [(ellipse((0.5, 0.98), (0.33, 0.26)), DARK)]
    for side in (-1, 1):
        x = 0.5 + side * 0.2
        shapes.append(([(x - side * 0.12, 0.36), (x + side * 0.09, 0.13), (x + side * 0.1, 0.45)], FUR))
        shapes.append(([(x - side * 0.05, 0.33), (x + side * 0.06, 0.2), (x + side * 0.065, 0.38)], NOSE))
    shapes.append((ellipse((0.5, 0.53), (0.3, 0.265)), FUR))
    for offset in (-0.07, 0.0, 0.07):
        shapes.append((ellipse((0.5 + offset, 0.345), (0.012, 0.055), offset * 120), DARK))
    for side in (-1, 1):
        shapes.append((ellipse((0.5 + side * 0.125, 0.49), (0.068, 0.056), side * 10), EYE))
        shapes.append((ellipse((0.5 + side * 0.125, 0.49), (0.022, 0.05)), PUPIL))
        shapes.append((ellipse((0.5 + side * 0.06, 0.665), (0.082, 0.062)), (222, 205, 186)))
    shapes.append(([(0.465, 0.6), (0.535, 0.6), (0.5, 0.64)], NOSE))
    return shapes


def whiskers() -> list[tuple[Point, Point]]:
    """Lines from the muzzle outwards."""
    return [
        ((0.5 + side * 0.1, 0.655 + drop), (0.5 + side * 0.36, 0.62 + 3 * drop))
        for side in (-1, 1)
        for drop in (-0.012, 0.006, 0.024)
    ]


def turned(point: Point, degrees: float) -> Point:
    """A point turned about the middle of the head, in pixels of the oversampled picture."""
    turn = math.radians(degrees)
    x, y = point[0] - 0.5, point[1] - 0.55
    scale = SIDE_PX * OVERSAMPLING
    return (0.5 + x * math.cos(turn) - y * math.sin(turn)) * scale, (
        0.55 + x * math.sin(turn) + y * math.cos(turn)
    ) * scale


def draw(degrees: float) -> Image.Image:
    """The head, turned clockwise by `degrees`."""
    picture = Image.new("RGB", (SIDE_PX * OVERSAMPLING,) * 2, GROUND)
    pen = ImageDraw.Draw(picture)
    for outline, colour in head_shapes():
        pen.polygon([turned(point, degrees) for point in outline], fill=colour)
    for start, end in whiskers():
        pen.line([turned(start, degrees), turned(end, degrees)], fill=(245, 245, 245), width=OVERSAMPLING)
    return picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def main(folder: Path) -> None:
    """Write both pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(0).save(folder / "frontal.png", optimize=True)
    draw(-18).save(folder / "tilted.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
