"""Renders conditioned on the edges of pictures: control/VARIANT/REFERENCE[@SCALE]/SEED.png.

control/conditioning/NAME.png is the reference as resized, NAME-canny.png its edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.artifacts import (
    AdapterFolder,
    Cell,
    RenderSet,
    Specification,
    hash_bytes,
    is_current,
    require_folder,
    write_changed,
)
from limner.base import Base
from limner.config import Control, ControlReference, Render, Subject
from limner.decoding import Decoders
from limner.errors import InputError
from limner.progress import Progress
from limner.records import ControlReferenceRecord, ControlSetRecord
from limner.rendering import (
    Column,
    Conditioning,
    Grid,
    Planned,
    Recipe,
    Request,
    columns_of,
    encode_png,
    remove_strays,
)
from limner.rendering.canny import (
    conditioning_tensor,
    edge_picture,
    given_edges,
    native_size,
    open_reference,
    rendered_size,
    require_edges,
    resize_picture,
)
from limner.rendering.controlnet import controlnet_hash, load_controlnet
from limner.rendering.prompts import check_negative_prompt, check_prompt
from limner.stages.context import Context
from limner.stages.pictures import Draft, flagged_cells, keys_of, make_missing

STAGE, VERSION = "control", 1
FOLDER = "conditioning"


@dataclass(frozen=True)
class Reference:
    """A reference as it is used: resized picture and its edges, both (H, W, 3) uint8."""

    name: str
    prompt: str
    size: tuple[int, int]
    picture: np.ndarray
    edges: np.ndarray
    given: bool = False  # the edges are the picture itself
    notes: tuple[str, ...] = ()

    @property
    def record(self) -> ControlReferenceRecord:
        """What the manifest says of it."""
        image, canny = f"{FOLDER}/{self.name}.png", f"{FOLDER}/{self.name}-canny.png"
        record = ControlReferenceRecord(name=self.name, image=image, canny=canny, size=self.size)
        return record.model_copy(update={"edges": "given"}) if self.given else record

    @property
    def files(self) -> dict[str, bytes]:
        """The PNG of picture and edges, by file."""
        stamp = {"reference": self.name}
        record = self.record
        return {
            record.image: encode_png(self.picture, stamp),
            record.canny: encode_png(self.edges, stamp),
        }


def control(
    context: Context,
    controlnet: Path,
    settings: Control,
    study_folder: Path,
    adapters: Sequence[AdapterFolder],
    out: Path,
    native_size_px: int,
    *,
    render: Render | None = None,
) -> RenderSet:
    """Render every reference, conditioning scale and seed with the base and every variant into `out`.

    Reference paths are relative to `study_folder`; one without a size keeps its shape, its longer side
    `native_size_px`. Raises, before any weight is loaded, InputError for a reference that is missing, unreadable
    or too small and BaseError for a folder without a ControlNet; afterwards BaseError for one that does not fit.
    """
    if not settings.references:
        raise InputError("control.references is empty; give the study at least one [[control.references]]")
    require_folder(out)
    references = read_references(settings, study_folder, native_size_px)
    columns = columns_of(adapters)
    subject, progress, render = context.subject, context.progress, render or Render()
    specification = specify_control(
        context.base_hash, controlnet_hash(controlnet), subject, settings, references, columns, render.precision
    )
    draft, inputs = Draft(specification), specification.inputs
    if is_current(out, specification.key):
        return RenderSet(out)
    _notice_references(settings, references, progress)
    grid = _grid(out, context, controlnet, settings, references, inputs, render)
    cells = [cell for column in columns for cell in _column_cells(grid, column, subject, settings, references)]
    plan = grid.plan([planned for planned, _ in cells])
    flags = make_missing(
        context,
        grid,
        plan,
        "control",
        look_at=lambda loaded: _check_prompts(loaded, subject, settings, references, progress),
        conditioning=lambda loaded: _conditioning(loaded, controlnet, references, waiting=grid.memory.offload),
    )
    for reference in references:
        for file, content in reference.files.items():
            write_changed(out / file, content)
    files = [planned.file for planned, _ in cells] + [file for reference in references for file in reference.files]
    pictures, keys = flagged_cells(cells, flags), keys_of(cells)
    record = ControlSetRecord(cells=pictures, keys=keys, references=[reference.record for reference in references])
    remove_strays(out, draft.write(out, files, record, plan.missing))
    return RenderSet(out)


def specify_control(
    base_hash: str,
    controlnet_hash: str,
    subject: Subject,
    settings: Control,
    references: Sequence[Reference],
    columns: Sequence[Column],
    precision: str,
) -> Specification:
    """What the conditioned renders follow from: of a reference its prompt and its pixels, not where it lies."""
    inputs = {
        "base": base_hash,
        "controlnet": controlnet_hash,
        "columns": [[column.label, column.weights] for column in columns],
        "edges": {reference.name: hash_bytes(reference.edges.tobytes()) for reference in references},
        "pictures": {reference.name: hash_bytes(reference.picture.tobytes()) for reference in references},
    }
    read = {
        **settings.model_dump(mode="json", exclude={"model", "references"}),
        "references": [{"name": r.name, "prompt": r.prompt, "size": list(r.size)} for r in references],
        "precision": precision,
        "identifier": subject.identifier,
        "class_noun": subject.class_noun,
    }
    return Specification(STAGE, VERSION, read, inputs)


def read_references(settings: Control, folder: Path, native_size_px: int) -> list[Reference]:
    """The references resized, and their edges, read as photos are.

    Raises InputError where a picture is missing, unreadable or too small, or has no edges.
    """
    with Decoders(1) as decoders:
        return [read_reference(row, settings, folder, native_size_px, decoders) for row in settings.references]


def read_reference(
    row: ControlReference, settings: Control, folder: Path, native_size_px: int, decoders: Decoders
) -> Reference:
    """One of them."""
    image, given = open_reference(folder / row.image, decoders), row.edges == "given"
    size = rendered_size(row.size, row.name) if row.size else native_size(image.pixels, native_size_px)
    low, high = settings.canny_low, settings.canny_high
    if given:
        picture = edges = given_edges(image.pixels, size, row.name)
    else:
        picture = resize_picture(image.pixels, size)
        edges = edge_picture(picture, low, high)
    require_edges(edges, row.name, given=given, low=low, high=high)
    return Reference(row.name, row.prompt or settings.prompt, size, picture, edges, given, tuple(image.notes))


def _notice_references(settings: Control, references: Sequence[Reference], progress: Progress) -> None:
    for row, reference in zip(settings.references, references, strict=True):
        if reference.notes:
            progress.notice(f'reference "{row.name}": {"; ".join(reference.notes)}')
        if row.size and row.size != reference.size:
            (width, height), (asked_width, asked_height) = reference.size, row.size
            progress.notice(
                f'reference "{row.name}": {asked_width}x{asked_height} becomes {width}x{height}, a multiple of 8'
            )


def _grid(
    out: Path,
    context: Context,
    controlnet: Path,
    settings: Control,
    references: Sequence[Reference],
    inputs: dict[str, Any],
    render: Render,
) -> Grid:
    model = inputs["controlnet"]
    by_reference = {r.name: {"controlnet": model, "edges": inputs["edges"][r.name]} for r in references}
    module = "none" if all(reference.given for reference in references) else "canny"
    described = (
        f"Module: {module}, Model: {Path(controlnet).name} [{model[:8]}], "
        f"Threshold A: {settings.canny_low}, Threshold B: {settings.canny_high}"
    )
    recipe = Recipe(settings.sampler, settings.steps, settings.guidance_scale)
    return Grid(
        out,
        context.base_hash,
        recipe,
        render.precision,
        render.batch_size,
        by_reference,
        control=described,
        memory=context.memory,
    )


def _column_cells(
    grid: Grid, column: Column, subject: Subject, settings: Control, references: Sequence[Reference]
) -> list[tuple[Planned, Cell]]:
    cells = []
    scales = list(dict.fromkeys(settings.conditioning_scale))
    for reference in references:
        text = subject.fill(reference.prompt, as_class=column.adapter is None)
        for scale in scales:
            row = f"{reference.name}@{scale:g}" if len(scales) > 1 else reference.name
            for seed in dict.fromkeys(settings.seeds):
                request = Request(text, settings.negative_prompt, seed, 0, reference.size, reference.name, scale)
                planned = grid.cell(column, request, f"{column.label}/{row}/{seed}.png")
                cells.append((planned, planned.cell(text)))
    return cells


def _check_prompts(
    base: Base, subject: Subject, settings: Control, references: Sequence[Reference], progress: Progress
) -> None:
    prompts = {reference.prompt: reference.name for reference in reversed(references)}
    for prompt, name in prompts.items():
        check_prompt(base.tokenizer, subject, name, prompt, progress)
    check_negative_prompt(base.tokenizer, references[0].name, settings.negative_prompt, progress)


def _conditioning(base: Base, controlnet: Path, references: Sequence[Reference], *, waiting: bool) -> Conditioning:
    images = {reference.name: conditioning_tensor(reference.edges) for reference in references}
    device = torch.device("cpu") if waiting else base.device
    return Conditioning(load_controlnet(controlnet, base, device=device), images)
