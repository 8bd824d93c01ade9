"""Does speed cost quality? The fast path beside a plain one in fp32, over subjects and training seeds.

`python -m bench.quality RECORD STUDY OUT [--plain]` trains and renders one subject's study, and scores its pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bench.processes import start_module, wait_for
from bench.studies import write_toml
from bench.table import machine_line

PATHS = ("fast", "plain")
METRICS = ("likeness", "prompt fidelity")
TRAINING_SEEDS, RENDER_SEEDS = [0, 1, 2], [0, 1, 2, 3]
PROMPTS = {
    "photo": "a photo of {subject}",
    "pencil sketch": "a pencil sketch of {subject}",
    "watercolour": "a watercolour of {subject}",
    "night": "a photo of {subject} at night",
}
FEWEST_SUBJECTS = 4

Scores = dict[str, dict[str, dict[int, tuple[float, float]]]]
"""Likeness and prompt fidelity by subject, method and training seed."""


@dataclass(frozen=True)
class Comparison:
    """One metric of one method on both paths, subjects and training seeds taken together."""

    method: str
    metric: str
    fast: float
    plain: float
    spread: float  # standard deviation between training seeds of one subject, of the plain path, pooled over subjects
    largest: float  # difference of any subject's means over seeds

    @property
    def agrees(self) -> bool:
        """Whether the paths differ by no more than training seeds do."""
        return abs(self.fast - self.plain) <= self.spread


def quality_tables(photos: Path, base: str, steps: int | None, path: str) -> dict[str, Any]:
    """The study of one subject: `photos` are square crops, and all else is what the base recommends."""
    common: dict[str, Any] = {"training_seeds": TRAINING_SEEDS, "checkpoint_every_steps": 0}
    common |= {"steps": steps} if steps else {}
    precision = {"precision": "fp32"} if path == "plain" else {}
    prompts = [{"name": name, "prompt": prompt} for name, prompt in PROMPTS.items()]
    return {
        "subject": {"photos": str(photos.resolve()), "identifier": "sks", "class_noun": "cat face"},
        "base": {"model": base},
        "prepare": {"focus": "center", "zoom": "picture"},
        "variants": [
            {"method": "full", **common, **precision},
            {"method": "lora", "rank": [16], **common, **precision},
        ],
        "render": {"seeds": RENDER_SEEDS, "prompts": prompts, "batch_size": 16, **precision},
    }


@contextlib.contextmanager
def plain_path() -> Iterator[None]:
    """A block without what makes limner fast: diffusers' own blocks, plain torch, each kernel launched by itself."""
    unfused = patch("limner.training.setup.fused", lambda *networks, everywhere: contextlib.nullcontext())
    uncaptured = patch("limner.training.loop.captured", lambda step, label, progress: step)
    one_stream = patch("limner.training.step.SideStream", lambda device: contextlib.nullcontext())
    plain_encoding = patch("limner.training.examples.fast", lambda device, *networks: contextlib.nullcontext())
    without_triton = patch("limner.kernels.available._installed", lambda: False)
    with unfused, plain_encoding, uncaptured, one_stream, without_triton, _plain_rendering(), _exact_convolutions():
        yield


@contextlib.contextmanager
def _exact_convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def _plain_rendering() -> Iterator[None]:
    from limner.rendering.denoiser import PlainDenoiser

    def plain_denoiser(base: Any, controlnet: Any, notice: Any, *, half_products: bool) -> Any:
        return contextlib.nullcontext(PlainDenoiser(base.unet, controlnet))

    with (
        patch("limner.rendering.execution.fast_denoiser", plain_denoiser),
        patch("limner.rendering.execution.fast", lambda device, *networks: contextlib.nullcontext()),
    ):
        yield


def score(run: Path, base: Any, device: torch.device) -> list[dict[str, Any]]:
    """Mean likeness and prompt fidelity of every trained variant's pictures.

    Whole pictures are compared: photos and renders are portraits, and no head finder is needed.
    """
    from limner.artifacts import PhotoSet, RenderSet
    from limner.embeddings import find_embedder, read_image
    from limner.measuring import class_text, likeness, prompt_fidelity

    embedder = find_embedder("efficientnet-lite0", base).load_image(device)
    pair = find_embedder("base", base).load_pair(device)
    photos = embedder.embed([read_image(file) for file in PhotoSet(run / "photos").files])
    renders, rows = RenderSet(run / "renders"), []
    for variant in dict.fromkeys(cell.variant for cell in renders.cells if cell.variant != "base"):
        cells = [cell for cell in renders.cells if cell.variant == variant]
        pictures = [read_image(renders.path(cell)) for cell in cells]
        texts = pair.embed_texts([class_text(cell.text, "sks", "cat face") for cell in cells])
        means = [likeness(embedder.embed(pictures), photos), prompt_fidelity(pair.embed(pictures), texts)]
        method = "full" if variant.startswith("full") else "lora"
        seed = cells[0].training_seed
        rows.append({"method": method, "seed": seed, "scores": [float(values.mean()) for values in means]})
    return rows


def compare(fast: Scores, plain: Scores) -> list[Comparison]:
    """A comparison for each method and metric; both paths have the same subjects and seeds."""
    methods = dict.fromkeys(method for of_subject in plain.values() for method in of_subject)
    return [
        _comparison(method, index, _seeds_of(fast, method, index), _seeds_of(plain, method, index))
        for method, index in product(methods, range(len(METRICS)))
    ]


def _seeds_of(scores: Scores, method: str, index: int) -> list[list[float]]:
    """One metric's values of every subject, by its seeds in order."""
    return [[values[index] for _, values in sorted(scores[subject][method].items())] for subject in sorted(scores)]


def _comparison(method: str, index: int, fast: list[list[float]], plain: list[list[float]]) -> Comparison:
    means = [[statistics.fmean(seeds) for seeds in side] for side in (fast, plain)]
    spread = statistics.fmean(statistics.variance(seeds) for seeds in plain) ** 0.5
    largest = max((a - b for a, b in zip(*means, strict=True)), key=abs)
    fast_mean, plain_mean = (statistics.fmean(side) for side in means)
    return Comparison(method, METRICS[index], fast_mean, plain_mean, spread, largest)


def quality_markdown(comparisons: Sequence[Comparison], subjects: Sequence[str], seconds: Mapping[str, float]) -> str:
    """The table, what it is of, and the verdict."""
    lines = ["## The fast path beside the plain one", "", machine_line(), ""]
    lines += ["| method | metric | fast | plain fp32 | difference | spread between seeds | largest of a subject | |"]
    lines += ["|" + "---|" * 8]
    for one in comparisons:
        outcome = "agree" if one.agrees else "DIFFER"
        lines.append(
            f"| {one.method} | {one.metric} | {one.fast:.4f} | {one.plain:.4f} | {one.fast - one.plain:+.4f} "
            f"| {one.spread:.4f} | {one.largest:+.4f} | {outcome} |"
        )
    verdict = "agree" if all(one.agrees for one in comparisons) else "do NOT agree"
    lines += ["", f"- {len(subjects)} subjects ({', '.join(subjects)}), training seeds {TRAINING_SEEDS}, "]
    lines[-1] += f"{len(PROMPTS) * len(RENDER_SEEDS)} pictures of each result."
    lines += [f"- Seconds of all processes: {', '.join(f'{path} {total:.0f}' for path, total in seconds.items())}."]
    if len(subjects) < FEWEST_SUBJECTS:
        lines += [f"- Fewer than {FEWEST_SUBJECTS} subjects: a quick look that does not count."]
    return "\n".join([*lines, f"- The paths {verdict} within the spread between training seeds."]) + "\n"


def quality(work: Path, subjects: Path, base: str, device: str, processes: int, steps: int | None) -> str:
    """Both paths of every subject under `subjects`, `processes` at once; the table."""
    names = sorted(folder.name for folder in subjects.iterdir() if folder.is_dir())
    jobs = list(product(names, PATHS))

    def take(job: tuple[str, str]) -> dict[str, Any]:
        name, path = job
        folder = work / "quality" / f"{name}-{path}"
        shutil.rmtree(folder, ignore_errors=True)
        study = write_toml(folder, quality_tables(subjects / name, base, steps, path))
        arguments = [study, folder / "run", "--device", device, *(["--plain"] if path == "plain" else [])]
        record = folder / "record.json"
        wait_for(start_module("bench.quality", record, arguments), record)
        return json.loads(record.read_text(encoding="utf-8"))

    with ThreadPoolExecutor(processes) as pool:
        records = dict(zip(jobs, pool.map(take, jobs), strict=True))
    sides: dict[str, Scores] = {path: {} for path in PATHS}
    for (name, path), record in records.items():
        for row in record["rows"]:
            sides[path].setdefault(name, {}).setdefault(row["method"], {})[row["seed"]] = tuple(row["scores"])
    seconds = {path: sum(records[name, path]["seconds"] for name in names) for path in PATHS}
    return quality_markdown(compare(sides["fast"], sides["plain"]), names, seconds)


def main() -> None:
    """One subject on one path."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    from limner.base.devices import choose_device
    from limner.opening import open_study
    from limner.study import run_study

    began, device = time.monotonic(), choose_device(options.device)
    with plain_path() if options.plain else contextlib.nullcontext():
        run_study(options.study, options.out, until="render", device=device)
    rows = score(options.out, open_study(options.study).base, device)
    text = json.dumps({"rows": rows, "seconds": time.monotonic() - began})
    options.record.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
