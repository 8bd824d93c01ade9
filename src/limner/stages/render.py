"""Every prompt, seed and image with the untouched base and with every variant: renders/VARIANT/PROMPT/SEED.png.

Files of cells that no longer belong are removed; everything else is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limner.artifacts import AdapterFolder, Cell, RenderSet, Specification, is_current, require_folder
from limner.base import Base
from limner.config import Render, RenderPrompt, Subject
from limner.errors import InputError
from limner.progress import Progress
from limner.records import RenderSetRecord
from limner.rendering import Column, Grid, Planned, Recipe, Request, columns_of, remove_strays
from limner.rendering.prompts import check_negative_prompt, check_prompt
from limner.stages.context import Context
from limner.stages.pictures import Draft, flagged_cells, keys_of, make_missing

STAGE, VERSION = "render", 1


def render(
    context: Context,
    settings: Render,
    adapters: Sequence[AdapterFolder],
    out: Path,
) -> RenderSet:
    """Render the grid into `out` and return it.

    Raises InputError without prompts, PromptError for a prompt whose subject is cut off, DiskError when there is no
    room.
    """
    subject = context.subject
    if not settings.prompts:
        raise InputError("render.prompts is empty; give the study at least one [[render.prompts]]")
    require_folder(out)
    columns = columns_of(adapters, settings.lora_scales)
    draft = Draft(specify_render(context.base_hash, subject, settings, columns))
    if is_current(out, draft.specification.key):
        return RenderSet(out)
    grid, cells = _grid(context, settings, columns, out)
    plan = grid.plan([planned for planned, _ in cells])
    flags = make_missing(
        context,
        grid,
        plan,
        "render",
        look_at=lambda loaded: _check_prompts(loaded, subject, settings, context.progress),
    )
    record = RenderSetRecord(cells=flagged_cells(cells, flags), keys=keys_of(cells))
    files = draft.write(out, [planned.file for planned, _ in cells], record, plan.missing)
    remove_strays(out, files)
    return RenderSet(out)


def count_missing_renders(context: Context, settings: Render, adapters: Sequence[AdapterFolder], out: Path) -> int:
    """How many pictures `render` with the same arguments would make; no weights are loaded."""
    grid, cells = _grid(context, settings, columns_of(adapters, settings.lora_scales), out)
    return grid.count_missing([planned for planned, _ in cells])


def _grid(
    context: Context, settings: Render, columns: Sequence[Column], out: Path
) -> tuple[Grid, list[tuple[Planned, Cell]]]:
    recipe = Recipe(settings.sampler, settings.steps, settings.guidance_scale)
    grid = Grid(out, context.base_hash, recipe, settings.precision, settings.batch_size, memory=context.memory)
    return grid, [cell for column in columns for cell in _column_cells(grid, column, context.subject, settings)]


def specify_render(base_hash: str, subject: Subject, settings: Render, columns: Sequence[Column]) -> Specification:
    """What the grid follows from; how many pictures are rendered at once does not change them."""
    read = settings.model_dump(mode="json", exclude={"batch_size"})
    words = {"identifier": subject.identifier, "class_noun": subject.class_noun}
    inputs = {"base": base_hash, "columns": [[c.label, c.weights, c.strength] for c in columns]}
    return Specification(STAGE, VERSION, read | words, inputs)


def _column_cells(grid: Grid, column: Column, subject: Subject, settings: Render) -> list[tuple[Planned, Cell]]:
    cells = []
    for row in settings.prompts:
        text = subject.fill(row.prompt, as_class=column.adapter is None)
        negative = _negative_prompt(row, subject, settings)
        size = row.size or settings.size
        for seed in dict.fromkeys(settings.seeds):
            for index in range(settings.images_per_seed):
                file = f"{column.label}/{row.name}/{seed}{f'-{index}' if index else ''}.png"
                planned = grid.cell(column, Request(text, negative, seed, index, size), file)
                cells.append((planned, planned.cell(row.name)))
    return cells


def _negative_prompt(row: RenderPrompt, subject: Subject, settings: Render) -> str:
    return settings.negative_prompt if row.negative_prompt is None else row.negative_prompt


def _check_prompts(base: Base, subject: Subject, settings: Render, progress: Progress) -> None:
    for row in settings.prompts:
        check_prompt(base.tokenizer, subject, row.name, row.prompt, progress)
    negatives = {_negative_prompt(row, subject, settings): row.name for row in reversed(settings.prompts)}
    for text, name in negatives.items():
        check_negative_prompt(base.tokenizer, name, text, progress)
