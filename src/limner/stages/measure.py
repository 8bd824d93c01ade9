"""Stage measure: photos and renders to scores.json.

Every cell gets a row a metric: likeness of heads and its gain over the base's render of the same prompt and
seed, prompt fidelity, nearness to a training photo, and for conditioned cells the agreement of edges. A model
that is not there is named and left out with its reason.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.artifacts import (
    PhotoSet,
    RenderSet,
    ScoreTable,
    canonical_json,
    hash_bytes,
    machine_record,
    stage_key,
    write_json,
)
from limner.base import BaseLocation
from limner.config import Measure, Subject
from limner.embeddings import (
    MIRRORED,
    WHOLE,
    Crop,
    Embedded,
    EmbedderLocation,
    EmbeddingCache,
    ImageEmbedder,
    PairEmbedder,
    around_head,
    find_embedder,
    read_image,
)
from limner.errors import InputError, LimnerError
from limner.measuring import (
    DECIMALS,
    FEWEST_PHOTOS,
    Picture,
    Scores,
    base_mean,
    canny_edges,
    ceiling,
    class_text,
    edge_agreement,
    gains,
    likeness,
    nearest_photo,
    photo_spread,
    prompt_fidelity,
)
from limner.progress import SILENT, Progress

STAGE, VERSION = "measure", 1
EDGE_AGREEMENT = "edge_agreement"
CACHE = Path("work") / ".embeddings"  # no variant's name starts with a dot


@dataclass(frozen=True)
class Found:
    """The models the study asks for; a string is the reason why one is not there."""

    likeness: dict[str, EmbedderLocation | str]
    pair: EmbedderLocation | str

    @property
    def identities(self) -> dict[str, Any]:
        """What goes into the key: an absent model counts, so that scores are made again once it is there."""
        return {
            "likeness": {name: _identity(place) for name, place in self.likeness.items()},
            "prompt_fidelity": _identity(self.pair),
        }


def measure(
    out: Path,
    photo_set: PhotoSet,
    renders: RenderSet,
    controls: RenderSet | None,
    subject: Subject,
    settings: Measure,
    base_location: BaseLocation,
    device: torch.device | str,
    *,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> ScoreTable:
    """Score every picture of `renders` and `controls` into the file `out` (scores.json).

    Embeddings are kept in `cache` (`work/.embeddings` beside `out` unless given). Raises LimnerError for a picture
    that cannot be read; a model that is absent or unfit is left out and named under "models".
    """
    found = Found(
        {name: _find(name, base_location) for name in settings.likeness},
        _find(settings.prompt_fidelity, base_location),
    )
    heads = around_head(subject.class_noun)
    read = {"measure": settings.model_dump(mode="json"), "subject": [subject.identifier, subject.class_noun]}
    inputs = {
        "photos": photo_set.content_hash,
        "renders": _grid_hash(renders),
        "controls": controls and _grid_hash(controls),
        "models": found.identities,
        "heads": heads.name,
    }
    key = stage_key(STAGE, VERSION, read, inputs)
    if _is_current(out, key):
        return ScoreTable(out)
    started = time.monotonic()
    scores = Scores()
    pictures = _pictures(renders, scores) + (_pictures(controls, scores) if controls else [])
    stage = _Measuring(
        scores, photo_set.files, pictures, heads, EmbeddingCache(cache or out.parent / CACHE), device, progress
    )
    stage.all_likeness(found.likeness)
    stage.prompt_fidelity(settings.prompt_fidelity, found.pair, subject)
    if controls:
        stage.edge_agreement(controls)
    made = {**machine_record(), "seconds": round(time.monotonic() - started, 2)}
    _write(
        out, scores, {"stage": STAGE, "version": VERSION, "key": key, "settings": read, "inputs": inputs, "made": made}
    )
    return ScoreTable(out)


@dataclass(frozen=True)
class _Measuring:
    scores: Scores
    photos: list[Path]
    pictures: list[Picture]
    heads: Crop
    cache: EmbeddingCache
    device: torch.device | str
    progress: Progress

    def all_likeness(self, places: dict[str, EmbedderLocation | str]) -> None:
        """Likeness and copying by every image embedder."""
        heads_noted = False
        for name, place in places.items():
            metric = f"likeness/{name}"
            try:
                embedder = _there(place).load_image(self.device)
            except InputError as error:
                self._leave_out(metric, name, str(error))
                continue
            total = 2 * len(self.pictures) + 3 * len(self.photos)
            with self.progress.task(f"measure likeness ({name})", total) as advance:
                heads = self._likeness(metric, embedder, advance)
                self._copying(f"copying/{name}", embedder, advance)
            if not heads_noted:
                self._note_heads(*heads)
                heads_noted = True

    def _likeness(self, metric: str, embedder: ImageEmbedder, advance: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        photos = self.cache.embed(embedder, self.photos, self.heads, advance)
        renders = self.cache.embed(embedder, self._files, self.heads, advance)
        values = likeness(renders.vectors, photos.vectors).tolist()
        self.scores.use(metric, embedder.name)
        self.scores.add(metric, self.pictures, values)
        top = ceiling(photos.vectors)
        low = base_mean(self.pictures, values)
        note = "mean cosine of heads; floor: the base's renders; ceiling: each real photo against the others"
        self.scores.anchor(metric, low, top, note if top is not None else _too_few("ceiling", len(self.photos)))
        self._gain(metric.replace("likeness/", "likeness_gain/", 1), embedder.name, values)
        return photos.found, renders.found

    def _gain(self, metric: str, name: str, values: list[float]) -> None:
        """Likeness minus that of the base's render of the same prompt and seed, for all others than the base."""
        others = gains(self.pictures, values)
        self.scores.use(metric, name)
        self.scores.add(metric, [p for p, _ in others], [v for _, v in others])
        self.scores.anchor(metric, 0.0, None, "likeness minus that of the base's render of the same prompt and seed")

    def _copying(self, metric: str, embedder: ImageEmbedder, advance: Callable[[int], None]) -> None:
        """Whole pictures, because what is copied is the photo, ground and all."""
        photos = self.cache.embed(embedder, self.photos, WHOLE, advance).vectors
        mirrored = self.cache.embed(embedder, self.photos, MIRRORED, advance).vectors
        renders = self.cache.embed(embedder, self._files, WHOLE, advance).vectors
        self.scores.use(metric, embedder.name)
        spread = photo_spread(photos, mirrored)
        if spread is None:
            self.scores.anchor(metric, None, None, _too_few("copying", len(self.photos)))
            self.scores.notes.append(_too_few("copying", len(self.photos)))
            return
        values = nearest_photo(renders, photos, mirrored).tolist()
        self.scores.add(metric, self.pictures, values)
        note = (
            "cosine to the nearest training photo, mirrored ones included; floor: the base's renders; ceiling: the "
            "nearest that two real photos come; a render above it is nearer to a photo than any photo to another"
        )
        nearest = [round(value, DECIMALS) for value in spread.nearest]
        self.scores.anchor(metric, base_mean(self.pictures, values), spread.limit, note, photos=nearest)

    def _note_heads(self, in_photos: Tensor, in_renders: Tensor) -> None:
        without = [file.name for file, found in zip(self.photos, in_photos.tolist(), strict=True) if not found]
        if without:
            self.scores.notes.append(
                f"no head was found in {len(without)} of {len(self.photos)} photos ({', '.join(without)}); "
                "likeness compares their centre"
            )
        found = zip(self.pictures, in_renders.tolist(), strict=True)
        by_variant = Counter(picture.cell.variant for picture, there in found if not there)
        if by_variant:
            listed = ", ".join(f"{variant} {count}" for variant, count in by_variant.items())
            self.scores.notes.append(
                f"no head was found in {by_variant.total()} of {len(self.pictures)} renders ({listed}); "
                "likeness compares their centre"
            )

    def prompt_fidelity(self, name: str, place: EmbedderLocation | str, subject: Subject) -> None:
        """Each picture against its prompt, read with the class noun instead of the identifier."""
        metric = f"prompt_fidelity/{name}"
        try:
            pair: PairEmbedder = _there(place).load_pair(self.device)
        except InputError as error:
            self._leave_out(metric, name, str(error))
            return
        prompts = [p.cell.text or p.cell.prompt for p in self.pictures]
        texts = [class_text(prompt, subject.identifier, subject.class_noun) for prompt in prompts]
        with self.progress.task(f"measure prompt fidelity ({name})", len(self.pictures)) as advance:
            pictures: Embedded = self.cache.embed(pair, self._files, WHOLE, advance)
            different = list(dict.fromkeys(texts))
            vectors = dict(zip(different, pair.embed_texts(different), strict=True))
        self.scores.use(metric, name)
        self.scores.anchor(metric, None, None, "cosine of picture and prompt, identifier read as class noun")
        if texts:
            fidelity = prompt_fidelity(pictures.vectors, torch.stack([vectors[text] for text in texts]))
            self.scores.add(metric, self.pictures, fidelity.tolist())

    def edge_agreement(self, controls: RenderSet) -> None:
        """Edges of each conditioned picture against the edges it was given."""
        low, high = (int(controls.manifest.settings[name]) for name in ("canny_low", "canny_high"))
        references = controls.manifest.content["references"]
        given = {row["name"]: read_image(controls.folder / row["canny"])[..., 0] > 127 for row in references}
        conditioned = [picture for picture in self.pictures if picture.cell.reference is not None]
        values = []
        with self.progress.task("measure edges", len(conditioned)) as advance:
            for picture in conditioned:
                edges = canny_edges(read_image(picture.file), low, high)
                values.append(_agreement(edges, given[str(picture.cell.reference)], picture.file))
                advance(1)
        self.scores.use(EDGE_AGREEMENT, "Canny", f"thresholds {low} and {high}, F1 within 2 px")
        self.scores.add(EDGE_AGREEMENT, conditioned, values)
        self.scores.anchor(EDGE_AGREEMENT, None, 1.0, "F1 of edges within 2 px; ceiling: every edge kept, none added")

    def _leave_out(self, metric: str, name: str, reason: str) -> None:
        self.scores.leave_out(metric, name, reason)
        self.progress.notice(f"{metric} is left out: {reason}")

    @property
    def _files(self) -> list[Path]:
        return [picture.file for picture in self.pictures]


def _find(name: str, base: BaseLocation) -> EmbedderLocation | str:
    try:
        return find_embedder(name, base)
    except InputError as error:
        return str(error)


def _there(place: EmbedderLocation | str) -> EmbedderLocation:
    if isinstance(place, str):
        raise InputError(place)
    return place


def _identity(place: EmbedderLocation | str) -> str | None:
    return None if isinstance(place, str) else place.identity


def _too_few(what: str, count: int) -> str:
    photos = "1 photo" if count == 1 else f"{count} photos"
    return f"{what}: not measurable with {photos}; {FEWEST_PHOTOS} are needed"


def _agreement(edges: Any, given: Any, file: Path) -> float:
    if edges.shape != given.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (edges.shape, given.shape)]
        raise LimnerError(
            f"{file} is {sizes[0]} and its conditioning image {sizes[1]}; remove the control folder and run again"
        )
    return edge_agreement(edges, given)


def _pictures(grid: RenderSet, scores: Scores) -> list[Picture]:
    """A grid's cells, but for those that the safety checker blanked."""
    blanked = [cell for cell in grid.cells if cell.flagged]
    if blanked:
        scores.notes.append(f"{len(blanked)} pictures blanked by the safety checker are not scored")
    return [Picture(cell, grid.path(cell)) for cell in grid.cells if not cell.flagged]


def _grid_hash(grid: RenderSet) -> str:
    """Hash of a grid's files and of what its cells say (their prompts' texts are read here)."""
    return hash_bytes(canonical_json([grid.content_hash, grid.manifest.content["cells"]]))


def _is_current(out: Path, key: str) -> bool:
    try:
        record = json.loads(out.read_text(encoding="utf-8"))
        manifest = record.pop("manifest")
        return manifest["key"] == key and manifest["content_hash"] == hash_bytes(canonical_json(record))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write(out: Path, scores: Scores, manifest: dict[str, Any]) -> None:
    record = scores.record()
    digest = hash_bytes(canonical_json(json.loads(json.dumps(record))))
    write_json(out, {**record, "manifest": {**manifest, "content_hash": digest}})
