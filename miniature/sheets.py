"""Contact sheets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from miniature.files import written_whole

LABEL_PX = 18


def save_sheet(path: Path, pictures: list[np.ndarray], labels: list[str], columns: int, side_px: int = 192) -> None:
    """Lay uint8 RGB pictures out in rows under their labels and write one JPEG or PNG."""
    cells = [_cell(picture, label, side_px) for picture, label in zip(pictures, labels, strict=True)]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    with written_whole(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _cell(picture: np.ndarray, label: str, side_px: int) -> np.ndarray:
    shrunk = cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA)
    band = np.full((LABEL_PX, side_px, 3), 255, np.uint8)
    cv2.putText(band, label[: side_px // 6], (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([band, shrunk])
