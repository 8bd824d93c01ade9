"""The photos and their styled versions, decoded once into one array."""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from miniature.files import read_json, write_json
from miniature.settings import PICTURE_PX, Job
from miniature.sheets import save_sheet
from miniature.styles import STYLE_NAMES, STYLES

PICTURE_BYTES = PICTURE_PX * PICTURE_PX * 3


@dataclass(frozen=True)
class PictureSet:
    """The memory-mapped pictures and their labels."""

    pixels: np.ndarray  # (pictures, styles, 256, 256, 3) uint8
    breeds: list[tuple[str, str]]
    """(species, breed), in the order of the labels."""
    breed: np.ndarray  # (pictures,)
    train: np.ndarray
    """Indices of the training pictures."""
    val: np.ndarray

    @property
    def species(self) -> np.ndarray:
        """0 for a cat, 1 for a dog."""
        return np.array([int(self.breeds[breed][0] == "dog") for breed in self.breed], np.int64)


def read_rows(data: Path, limit: int | None) -> list[dict[str, str]]:
    """The rows of pets256.csv; with a limit, evenly spaced ones with a sixth of them for validation."""
    with (data / "pets256.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if limit is None or limit >= len(rows):
        return rows
    chosen = [rows[index] for index in np.linspace(0, len(rows) - 1, limit).astype(int)]
    return [row | {"split": "val" if index % 6 == 5 else "train"} for index, row in enumerate(chosen)]


def load_picture(path: Path) -> np.ndarray:
    """One photo as RGB uint8 (256, 256, 3)."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (PICTURE_PX, PICTURE_PX, 3):
        raise ValueError(f"{path} is not a readable {PICTURE_PX}x{PICTURE_PX} picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _write_styles(task: tuple[str, str, int]) -> None:
    """Write all styles of one picture into its place in the array file."""
    source, target, index = task
    cv2.setNumThreads(1)
    picture = load_picture(Path(source))
    block = np.stack([style(picture, index) for style in STYLES.values()])
    with Path(target).open("r+b") as file:
        file.seek(index * len(STYLES) * PICTURE_BYTES)
        file.write(block.tobytes())


def run(job: Job) -> None:
    """Write WORK/pictures/pixels.bin, index.json and a contact sheet of the styles."""
    rows = read_rows(job.data, job.limit_pictures)
    job.folder.mkdir(parents=True, exist_ok=True)
    target = job.folder / "pixels.bin"
    (job.folder / "index.json").unlink(missing_ok=True)  # stands only beside complete pixels
    with target.open("wb") as file:
        file.truncate(len(rows) * len(STYLES) * PICTURE_BYTES)
    tasks = [(str(job.data / "pets256" / row["file"]), str(target), index) for index, row in enumerate(rows)]
    with ProcessPoolExecutor(job.workers) as pool:
        for done, _ in enumerate(pool.map(_write_styles, tasks, chunksize=max(1, min(16, len(tasks) // 32))), start=1):
            if done % 500 == 0:
                print(f"pictures: {done} of {len(rows)}", flush=True)
    write_json(job.folder / "index.json", {"styles": list(STYLE_NAMES), "pictures": rows})
    pictures = load_pictures(job.work)
    shown = pictures.pixels[[0, len(rows) // 2]].reshape(-1, PICTURE_PX, PICTURE_PX, 3)
    save_sheet(job.folder / "styles.jpg", list(shown), list(STYLE_NAMES) * 2, columns=8)
    print(f"pictures: {len(pictures.train)} train, {len(pictures.val)} val, {len(STYLE_NAMES)} styles", flush=True)


def load_pictures(work: Path) -> PictureSet:
    """Open what `run` wrote."""
    index = read_json(work / "pictures" / "index.json")
    if tuple(index["styles"]) != STYLE_NAMES:
        raise ValueError("the styles have changed since the pictures were made; run the part `pictures` again")
    rows = index["pictures"]
    shape = (len(rows), len(STYLE_NAMES), PICTURE_PX, PICTURE_PX, 3)
    pixels = np.memmap(work / "pictures" / "pixels.bin", np.uint8, "r", shape=shape)
    breeds = sorted({(row["species"], row["breed"]) for row in rows})
    breed = np.array([breeds.index((row["species"], row["breed"])) for row in rows], np.int64)
    split = np.array([row["split"] for row in rows])
    return PictureSet(pixels, breeds, breed, np.flatnonzero(split == "train"), np.flatnonzero(split == "val"))
